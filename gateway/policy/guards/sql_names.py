"""What SQL may name where nothing else is said: functions, keywords before brackets, catalogs.

All of PostgreSQL, all read-only: none reads files or settings, runs a text as SQL, sleeps, locks,
signals, connects, or changes a sequence, a setting or a large object. Some can be made to take
long or return much; a `statement_timeout` on the server is the answer to that.
"""


def _words(*texts: str) -> frozenset[str]:
    return frozenset(word for text in texts for word in text.split())


FUNCTIONS = _words(
    # aggregates and window functions
    """
    any_value array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count covar_pop covar_samp
    cume_dist dense_rank every first_value grouping json_agg json_object_agg jsonb_agg
    jsonb_object_agg lag last_value lead max min mode nth_value ntile percent_rank percentile_cont
    percentile_disc rank range_agg range_intersect_agg regr_avgx regr_avgy regr_count
    regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy row_number stddev stddev_pop
    stddev_samp string_agg sum var_pop var_samp variance
    """,
    # conditions and conversions
    """
    cast coalesce greatest least nullif num_nonnulls num_nulls pg_typeof row to_char to_date
    to_number to_timestamp
    bool date float4 float8 int2 int4 int8 json jsonb numeric text time timestamp timestamptz uuid
    varchar
    """,
    # numbers
    """
    abs acos acosd asin asind atan atan2 atan2d atand cbrt ceil ceiling cos cosd cosh cot cotd
    degrees div erf erfc exp factorial floor gcd lcm ln log log10 min_scale mod pi power pow
    radians random round scale sign sin sind sinh sqrt tan tand tanh trim_scale trunc width_bucket
    """,
    # texts
    """
    ascii bit_count bit_length btrim char_length character_length chr concat concat_ws decode
    encode format get_bit get_byte initcap length left lower lpad ltrim md5 normalize octet_length
    overlay position quote_ident quote_literal quote_nullable regexp_count regexp_instr
    regexp_like regexp_match regexp_matches regexp_replace regexp_split_to_array
    regexp_split_to_table regexp_substr repeat replace reverse right rpad rtrim sha224 sha256
    sha384 sha512 split_part starts_with string_to_array string_to_table strpos substr substring
    to_ascii to_hex translate trim unistr upper
    """,
    # times
    """
    age clock_timestamp date_add date_bin date_part date_subtract date_trunc extract isfinite
    justify_days justify_hours justify_interval localtimestamp make_date make_interval make_time
    make_timestamp make_timestamptz now overlaps statement_timestamp timeofday timezone
    transaction_timestamp current_timestamp current_time localtime
    """,
    # arrays, ranges, sets
    """
    array_append array_cat array_dims array_fill array_length array_lower array_ndims
    array_position array_positions array_prepend array_remove array_replace array_sample
    array_shuffle array_to_string array_upper cardinality generate_series generate_subscripts
    isempty lower_inc lower_inf range_merge trim_array unnest upper_inc upper_inf
    int4range int8range numrange tsrange tstzrange daterange
    """,
    # JSON
    """
    array_to_json json_array_elements json_array_elements_text json_array_length json_build_array
    json_build_object json_each json_each_text json_extract_path json_extract_path_text
    json_object json_object_keys json_strip_nulls json_to_record json_to_recordset json_typeof
    jsonb_array_elements jsonb_array_elements_text jsonb_array_length jsonb_build_array
    jsonb_build_object jsonb_each jsonb_each_text jsonb_extract_path jsonb_extract_path_text
    jsonb_insert jsonb_object jsonb_object_keys jsonb_path_exists jsonb_path_match
    jsonb_path_query jsonb_path_query_array jsonb_path_query_first jsonb_pretty jsonb_set
    jsonb_set_lax jsonb_strip_nulls jsonb_to_record jsonb_to_recordset jsonb_typeof row_to_json
    to_json to_jsonb
    """,
    # full text search
    """
    numnode phraseto_tsquery plainto_tsquery querytree setweight strip to_tsquery to_tsvector
    ts_headline ts_rank ts_rank_cd tsvector_to_array websearch_to_tsquery
    """,
    # about the schema
    """
    col_description current_database current_schema current_schemas format_type obj_description
    pg_get_constraintdef pg_get_expr pg_get_indexdef pg_size_pretty pg_table_is_visible
    shobj_description version gen_random_uuid
    """,
)

BEFORE_BRACKET = _words(
    """
    all and any array as between bit by case char character conflict cube dec decimal
    distinct else escape except exists filter float from group having ilike in
    intersect interval is join lateral like limit materialized nchar not
    offset on only or order over partition rollup select set sets similar some symmetric then to
    union using values varbit varying when where with zone
    """
)
"""Keywords after which a bracket is no function call."""

BEFORE_LITERAL = _words(
    """
    all and any between both by distinct else escape except for from having ilike in intersect
    is leading like limit not offset on or placing returning select similar some symmetric then to
    trailing union when where with zone
    bool boolean bytea date inet integer interval int json jsonb numeric real precision smallint
    bigint text time timestamp timestamptz uuid varchar varying
    """
)
"""Keywords and types after which a quoted text is a value, or a cast that is harmless."""

SYSTEM_RELATIONS = _words(
    """
    pg_am pg_attrdef pg_attribute pg_cast pg_class pg_collation pg_constraint pg_depend
    pg_description pg_enum pg_extension pg_index pg_indexes pg_inherits pg_language pg_matviews
    pg_namespace pg_operator pg_partitioned_table pg_policies pg_policy pg_proc pg_range pg_rules
    pg_sequence pg_sequences pg_stat_user_indexes pg_stat_user_tables pg_statio_user_indexes
    pg_statio_user_tables pg_tables pg_tablespace pg_timezone_abbrevs pg_timezone_names pg_trigger
    pg_type pg_views
    """
)
"""Relations of `pg_catalog` without secrets, statistics of contents, or other people's queries."""

VALUES_WITHOUT_BRACKETS = _words(
    """
    current_catalog current_date current_role current_schema current_time current_timestamp
    current_user localtime localtimestamp session_user system_user user
    """
)
"""Calls that look like names."""

TYPES = _words(
    """
    ARRAY BIGINT BIT BOOLEAN CHAR DATE DATERANGE DECIMAL DOUBLE FLOAT INET INT INT4RANGE INT8RANGE
    INTERVAL JSON JSONB MONEY NAME NUMRANGE SMALLINT TEXT TIME TIMESTAMP TIMESTAMPNTZ TIMESTAMPTZ
    TIMETZ TSRANGE TSTZRANGE UUID VARBINARY VARCHAR UNKNOWN
    """
)
"""Types one may cast to, as sqlglot names them: none looks anything up or runs code of a user."""
