import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.arguments import MAX_NODES, MAX_TEXT_BYTES, ArgumentsLevel, summarise_arguments
from gateway.audit.keys import Digester
from gateway.audit.records import capped, encode_record
from gateway.audit.redacted import MAX_REDACTED_BYTES, without_secrets
from tests.audit.samples import decision
from tests.redaction.planted import PLANTED

DIGESTER = Digester(bytes(32))


def summarise(level: ArgumentsLevel, arguments: object) -> dict[str, Any]:
    return summarise_arguments(level, arguments, json.dumps(arguments).encode(), DIGESTER)


def test_level_none_keeps_nothing() -> None:
    assert summarise("none", {"password": "hunter2"}) == {"level": "none"}


def test_level_shape_keeps_keys_types_and_sizes_but_no_value() -> None:
    arguments = {
        "query": "sel\u00e9ct",
        "limit": 10,
        "dry": True,
        "ratio": 0.5,
        "none": None,
        "tags": ["a", {"deep": "secret"}],
        "empty": {},
    }
    summary = summarise("shape", arguments)
    assert summary == {
        "level": "shape",
        "size_bytes": len(json.dumps(arguments)),
        "digest": DIGESTER.digest(json.dumps(arguments).encode()),
        "shape": {
            "type": "object",
            "count": 7,
            "members": [
                {"key": "query", "type": "string", "size_bytes": 7},
                {"key": "limit", "type": "integer"},
                {"key": "dry", "type": "boolean"},
                {"key": "ratio", "type": "number"},
                {"key": "none", "type": "null"},
                {
                    "key": "tags",
                    "type": "array",
                    "count": 2,
                    "elements": [
                        {"type": "string", "size_bytes": 1},
                        {
                            "type": "object",
                            "count": 1,
                            "members": [{"key": "deep", "type": "string", "size_bytes": 6}],
                        },
                    ],
                },
                {"key": "empty", "type": "object", "count": 0},
            ],
        },
    }


def test_level_full_keeps_the_text_up_to_its_limit() -> None:
    assert summarise("full", {"a": 1})["text"] == '{"a": 1}'
    cut = summarise("full", {"a": "x" * MAX_TEXT_BYTES})
    assert cut["text_cut"] is True
    assert len(cut["text"]) == MAX_TEXT_BYTES


def test_level_redacted_keeps_values_without_the_secrets_in_them() -> None:
    plain = {"query": "select 1", "limit": 10}
    assert summarise("redacted", plain)["text"] == json.dumps(plain)
    summary = summarise(
        "redacted", {"query": "select 1", "password": "hunter2", "note": f"use {PLANTED['npm']}"}
    )
    assert json.loads(summary["text"]) == {
        "query": "select 1",
        "password": "[redacted: password]",
        "note": "use [redacted: npm-token]",
    }
    assert summary["redacted"] == 2
    assert "text_cut" not in summary


def test_level_redacted_cuts_long_values_after_their_secrets_are_out() -> None:
    for size in (1000, 1020, 4080, 4090):
        summary = summarise("redacted", {"text": "x" * size + " " + PLANTED["npm"] + "y" * 100_000})
        assert summary["text_cut"] is True
        assert PLANTED["npm"][:12] not in summary["text"]
        assert len(summary["text"]) < 1100
    many = summarise("redacted", {str(n): ["z" * 900] * 5 for n in range(2000)})
    assert many["text_cut"] is True
    assert len(many["text"]) <= MAX_REDACTED_BYTES


def test_a_key_that_is_a_secret_is_kept_at_no_level_but_full() -> None:
    for level in ("shape", "redacted"):
        summary = summarise(level, {PLANTED["stripe"]: 1})
        assert PLANTED["stripe"] not in json.dumps(summary)


def test_a_text_of_a_record_is_kept_without_secrets_and_cut() -> None:
    assert without_secrets("db://u:p@h") == "db://u:[redacted: url-credentials]@h"
    long = without_secrets("x" * 1000 + PLANTED["npm"] + "y" * 100_000)
    assert PLANTED["npm"][:12] not in long
    assert capped(long) == long
    assert "[101040 characters, SHA-256 " in long


def test_one_wide_member_does_not_hide_its_siblings() -> None:
    shape = summarise("shape", {"wide": {f"k{n}": n for n in range(1000)}, "last": 1})["shape"]
    assert [member["key"] for member in shape["members"]] == ["wide", "last"]
    assert shape["members"][0]["count"] == 1000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=300,
)


@given(json_values)
def test_a_summary_of_anything_is_bounded_and_can_be_recorded(arguments: object) -> None:
    redacted = summarise("redacted", arguments)
    assert len(redacted["text"]) <= MAX_REDACTED_BYTES
    json.loads(encode_record(decision(arguments=redacted)))
    summary = summarise("shape", arguments)
    assert json.dumps(summary).count('"type"') <= MAX_NODES + 1 + json.dumps(arguments).count(
        "type"
    )
    json.loads(encode_record(decision(arguments=summary)))


@pytest.mark.parametrize(
    "arguments",
    [
        {"k" * 100_000: 1},
        {"\x00" * 1000 + str(n): 1 for n in range(1000)},
        [[[[[[[[[[]]]]]]]]]] * 1000,
        {str(n): {str(m): [1] * 9 for m in range(100)} for n in range(100)},
    ],
)
def test_hostile_arguments_make_no_long_records(arguments: object) -> None:
    record = decision(arguments=summarise("shape", arguments))
    assert len(encode_record(record)) < 150_000


def test_lone_surrogates_in_keys_do_not_stop_the_record() -> None:
    summary = summarise_arguments("full", {"\ud800": "\udfff"}, b'{"\\ud800":"\\udfff"}', DIGESTER)
    line = json.loads(encode_record(decision(arguments=summary)))
    assert line["arguments"]["shape"]["members"][0]["key"] == "\\ud800"


def test_the_digest_depends_on_the_key() -> None:
    assert DIGESTER.digest(b"x") != Digester(b"1" * 32).digest(b"x")
    assert len(DIGESTER.digest(b"x")) == 32
