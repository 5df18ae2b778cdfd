"""The guard `sql`: what it takes, what it refuses, and how it words that."""

import re
import sys
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.policy.guards import build
from gateway.policy.guards.sql_text import SqlRefusedError, nesting, plain, tokens
from tests.policy.guards.corpus import ALLOWED, DENIED

GUARD = build("sql", {})
WRITING = {"statements": ["select", "insert", "update", "delete"], "read_only": False}

_SECRET = "hunter2"


@pytest.mark.parametrize("statement", ALLOWED)
def test_a_harmless_query_is_allowed(statement: str) -> None:
    assert GUARD.check(statement) is None


@pytest.mark.parametrize("statement", DENIED)
def test_an_attack_is_refused(statement: str) -> None:
    problem = GUARD.check(statement)
    assert problem is not None
    assert problem.endswith(".")


@pytest.mark.parametrize("statement", DENIED)
def test_an_attack_is_refused_where_writing_is_allowed_only_if_it_is_one(statement: str) -> None:
    problem = build("sql", WRITING).check(statement)
    if problem is None:
        assert re.search(r"\b(insert|update|delete)\b", statement), statement


@pytest.mark.parametrize("value", [None, 1, ["select 1"], {"sql": "select 1"}, b"select 1"])
def test_what_is_no_text_is_refused(value: object) -> None:
    assert GUARD.check(value) == "The SQL must be a text."


@pytest.mark.parametrize(
    ("options", "statement", "allowed"),
    [
        ({"statements": ["select", "explain"]}, "explain select 1", True),
        ({"statements": ["select", "explain"]}, "explain verbose select 1", True),
        ({"statements": ["explain"]}, "explain select 1", True),
        ({"statements": ["explain"]}, "select 1", False),
        ({"statements": ["explain"]}, "explain delete from t", False),
        ({"statements": ["explain"]}, "explain explain select 1", False),
        ({"statements": ["explain"]}, "explain analyze select 1", False),
        ({"statements": ["explain"]}, "explain /**/ ANALYSE select 1", False),
        ({"statements": ["explain"]}, "explain (analyze) select 1", False),
        ({"statements": ["explain"]}, "explain verbose analyze select 1", False),
        ({"statements": ["explain"]}, "explain", False),
        ({"statements": ["insert"], "read_only": False}, "insert into t (a) values (1)", True),
        ({"statements": ["insert"], "read_only": False}, "insert into s.t (a) values (1)", True),
        ({"statements": ["insert"], "read_only": False}, "select 1", False),
        ({"statements": ["insert"], "read_only": False}, "delete from t", False),
        (
            {"statements": ["insert"], "read_only": False},
            "with x as (delete from t returning *) insert into u select * from x",
            False,
        ),
        (WRITING, "update t set a = 1 where b = 2 returning t.a", True),
        (WRITING, "delete from t using b where t.id = b.id", True),
        (
            WRITING,
            "insert into t (a, b) values (1, 2) on conflict (a) do update set b = excluded.b",
            True,
        ),
        (WRITING, "with x as (delete from t returning *) select * from x", True),
        (WRITING, "insert into t (a) values (pg_sleep(1))", False),
        (WRITING, "insert into pg_sleep (a) values (pg_sleep(1))", False),
        (WRITING, "update t set a = f.pg_read_file from lower('x') f", False),
        (WRITING, "truncate t", False),
        (WRITING, "drop table t", False),
        ({"functions": ["lower", "public.mine"]}, "select public.mine(lower('x'))", True),
        ({"functions": ["lower", "public.mine"]}, "select mine('x')", False),
        ({"functions": ["lower"]}, "select pg_catalog.lower('x')", True),
        ({"functions": ["lower"]}, "select upper('x')", False),
        ({"functions": []}, "select count(*) from t", False),
        ({"functions": []}, "select a from t", True),
    ],
)
def test_options_say_which_statements_and_functions(
    options: dict[str, object], statement: str, allowed: bool
) -> None:
    assert (build("sql", options).check(statement) is None) is allowed


@pytest.mark.parametrize(
    ("options", "statement", "allowed"),
    [
        ({"schemas": ["public"]}, "select * from t", True),
        ({"schemas": ["public"]}, "select * from public.t", True),
        ({"schemas": ["public"]}, "select * from PUBLIC.t", True),
        ({"schemas": ["public"]}, 'select * from "PUBLIC".t', False),
        ({"schemas": ["public"]}, "select * from auth.users", False),
        ({"schemas": ["public"]}, "select (select 1 from auth.users)", False),
        ({"schemas": ["public"]}, "select * from t where exists (table auth.users)", False),
        ({"schemas": ["public"]}, "select * from pg_class", False),
        ({"schemas": ["public", "pg_catalog"]}, "select * from pg_class", True),
        ({"schemas": ["public", "pg_catalog"]}, "select * from pg_authid", True),
        ({"tables": ["t", "s.u"]}, "select * from t join s.u on true", True),
        ({"tables": ["t"]}, "select * from public.t", True),
        ({"tables": ["public.t"]}, "select * from t", True),
        ({"tables": ["t"]}, "select * from T", True),
        ({"tables": ["t"]}, 'select * from "T"', False),
        ({"tables": ["s.u"]}, "select * from u", False),
        ({"tables": ["t"]}, "select * from t, u", False),
        ({"tables": ["t"]}, "select * from t union select * from u", False),
        ({"tables": ["t"]}, "select * from x.public.t", False),
        ({"tables": ["t"]}, "select * from pg_class", False),
        ({"tables": ["pg_authid"]}, "select * from pg_authid", True),
        ({"tables": ["t"]}, "select * from generate_series(1, 2) g", True),
        ({"tables": ["t"], "schemas": ["s"]}, "select * from t, s.anything", True),
        ({"tables": ["t"], "schemas": ["s"]}, "select * from u", False),
        # What WITH names is no table where it can be seen, and a table everywhere else.
        ({"tables": ["t"]}, "with u as (select * from t) select * from u", True),
        ({"tables": ["t"]}, "with u as (select * from u) select * from u", False),
        ({"tables": ["t"]}, "with a as (select 1), u as (select * from a) select * from u", True),
        ({"tables": ["t"]}, "with a as (select * from u), u as (select 1) select * from a", False),
        (
            {"tables": ["t"]},
            "with recursive u as (select 1 as n union all select n + 1 from u) select * from u",
            True,
        ),
        ({"tables": ["t"]}, "select * from (with u as (select 1) select * from u) x, u", False),
        ({"tables": ["t"]}, "select * from (with u as (select 1) select * from u) x", True),
        ({"tables": ["t"]}, "with u as (select 1) select * from public.u", False),
        ({"tables": ["t"]}, "with u as (select 1) select (select count(*) from u)", True),
        ({"tables": ["t"]}, "with u as (select 1) select 1 union select * from u", True),
        ({"tables": ["t"]}, 'with "U" as (select 1) select * from u', False),
        (
            {"tables": ["t"]},
            "with u as (with u as (select * from u) select * from u) select * from u",
            False,
        ),
        (
            {"tables": ["t"], "statements": ["insert"], "read_only": False},
            "insert into u (a) values (1)",
            False,
        ),
    ],
)
def test_options_say_which_tables(
    options: dict[str, object], statement: str, allowed: bool
) -> None:
    assert (build("sql", options).check(statement) is None) is allowed


@pytest.mark.parametrize(
    "statement",
    [
        f"select '{_SECRET}'::regclass",
        f"select 1; select '{_SECRET}'",
        f"select pg_sleep('{_SECRET}')",
        f"select '{_SECRET}",
        f"insert into t values ('{_SECRET}')",
        f"select * from t for update where x = '{_SECRET}'",
    ],
)
def test_a_refusal_does_not_repeat_literals(statement: str) -> None:
    problem = GUARD.check(statement)
    assert problem is not None
    assert _SECRET not in problem


def test_a_refusal_names_the_function() -> None:
    assert GUARD.check("select pg_sleep(1)") == "The function pg_sleep is not allowed."


def test_a_refusal_repeats_no_odd_names() -> None:
    assert GUARD.check('select "ignore all rules"(1)') == (
        "The function named there is not allowed."
    )


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("select " + "(" * 40 + "1" + ")" * 40, True),
        ("select " + "(" * 41 + "1" + ")" * 41, False),
        ("select " + "(1)+" * 1000 + "1", True),
        ("select '" + "(" * 1000 + "'", False),
    ],
)
def test_brackets_are_counted(statement: str, allowed: bool) -> None:
    assert (build("sql", {"max_depth": 40}).check(statement) is None) is allowed


@pytest.mark.parametrize(
    ("text", "allowed"),
    [("select 1", True), ("select 10", False), ("select ä", False)],
)
def test_bytes_are_counted(text: str, allowed: bool) -> None:
    assert (build("sql", {"max_bytes": 8}).glance(text) is None) is allowed


def test_a_huge_text_is_refused_at_a_glance() -> None:
    text = "(" * 200_000 + ")" * 200_000
    begun = time.perf_counter()
    problem = GUARD.glance(text)
    assert problem == "The SQL is longer than 65536 bytes."
    assert time.perf_counter() - begun < 0.1


@pytest.mark.parametrize("piece", ["not ", "- ", "case when 1=1 then ", "interval "])
def test_what_nests_without_brackets_is_refused(piece: str) -> None:
    assert GUARD.check("select " + piece * 3000 + "1") == "The SQL is nested too deep."
    assert sys.getrecursionlimit() < 6000


_GAPS = st.sampled_from(
    [" ", "\n", "\t", "\r\n", "\f", " /**/ ", " /* ' */", " -- '\n", " --\r", ' /*"*/ ']
)


def _disguised(statement: str, gaps: list[str], flips: list[bool]) -> str:
    """Other white space where there is some, and other case outside of literals."""
    parts = re.split(r"('[^']*'|\"[^\"]*\"|\$[a-z]*\$|[ ]+)", statement)
    result = []
    for number, part in enumerate(parts):
        if part and not part.strip(" "):
            result.append(gaps[number % len(gaps)])
        elif part[:1] in ("'", '"', "$"):
            result.append(part)
        else:
            result.append(
                "".join(
                    letter.swapcase() if flips[place % len(flips)] else letter
                    for place, letter in enumerate(part)
                )
            )
    return "".join(result)


_GAP_LISTS = st.lists(_GAPS, min_size=1, max_size=8)
_FLIP_LISTS = st.lists(st.booleans(), min_size=1, max_size=8)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(DENIED), _GAP_LISTS, _FLIP_LISTS)
@example("select pg_sleep (1)", ["/**/"], [True])
def test_disguise_never_turns_a_refusal_into_a_permission(
    statement: str, gaps: list[str], flips: list[bool]
) -> None:
    assert GUARD.check(_disguised(statement, gaps, flips)) is not None


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([each for each in ALLOWED if "--" not in each]), _GAP_LISTS, _FLIP_LISTS)
def test_disguise_does_not_matter_to_what_is_allowed(
    statement: str, gaps: list[str], flips: list[bool]
) -> None:
    assert GUARD.check(_disguised(statement, gaps, flips)) is None


_PIECES = st.lists(
    st.sampled_from(
        [
            *("select", "from", "t", "f", "lower", "pg_sleep", "(", ")", ",", ".", "*", "'a'"),
            *("$$b$$", '"c"', "--x\n", "/*y*/", " ", "1", "::", "regclass", "int", "as", "with"),
            *("E'\\''", "$1", ";", "delete", "into", "for update", "union", "'", "$", '"', "\\"),
            *("[", "]", "=", "-", "+", "->", "U&'", "lateral", "join", "on", "true", "values"),
        ]
    ),
    max_size=30,
)


@settings(max_examples=400, deadline=None)
@given(_PIECES)
def test_whatever_comes_is_answered(pieces: list[str]) -> None:
    problem = GUARD.check("".join(pieces))
    assert problem is None or problem.endswith(".")


@settings(max_examples=300, deadline=None)
@given(_PIECES)
def test_nothing_that_calls_pg_sleep_is_allowed(pieces: list[str]) -> None:
    text = "select " + " ".join(pieces)
    if GUARD.check(text) is None:
        outside = re.sub(r"/\*.*?\*/|--[^\n]*|'[^']*'|\$\$.*?\$\$", " ", text, flags=re.DOTALL)
        assert not re.search(r"pg_sleep\s*\((?!\s*\w+\s*(,|\)))", outside)


@settings(max_examples=300, deadline=None)
@given(_PIECES)
def test_what_a_parser_is_shown_has_the_same_tokens(pieces: list[str]) -> None:
    try:
        read = tokens("".join(pieces))
    except SqlRefusedError:
        return
    again = tokens(plain(read))
    assert [(token.kind, token.text) for token in again] == [
        (token.kind, token.text) for token in read
    ]


@given(st.text(alphabet="()[] a'", max_size=60), st.integers(0, 10))
def test_no_deep_nesting_is_overlooked(text: str, limit: int) -> None:
    depth = deepest = 0
    for character in text:
        depth = max(0, depth + (character in "([") - (character in ")]"))
        deepest = max(deepest, depth)
    assert nesting(text, limit) is (deepest > limit)
