"""Envelopes and headers of the stateless revisions, with the official SDK as the oracle."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.shared import inbound as official
from mcp_types import jsonrpc
from mcp_types import methods as protocol
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from gateway.wire import modern
from gateway.wire.modern import (
    Refusal,
    RequestEnvelope,
    check_headers,
    check_param_headers,
    decode_header,
    encode_header,
    param_headers,
    read_envelope,
    request_headers,
    require_supported,
    unusable_param_header,
    with_envelope,
    without_envelope,
)

REVISION = "2026-07-28"
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6)
    | st.sampled_from(["=?base64?eA==?=", " x", "42", "1.0", "true"])
    | st.lists(st.none(), max_size=1)
)
PROPERTY_NAMES = st.sampled_from(["a", "b", "c"])
HEADER_NAMES = st.sampled_from(["A", "a", "B", "Trace-Id", "no name", "", 7])
TYPES = st.sampled_from(["string", "integer", "boolean", "number", "object", ["string"], None])
LEAVES = st.fixed_dictionaries({"type": TYPES}, optional={"x-mcp-header": HEADER_NAMES})
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(PROPERTY_NAMES, inner, max_size=3),
            "items": inner,
            "anyOf": st.lists(inner, max_size=2),
            "$defs": st.dictionaries(PROPERTY_NAMES, inner, max_size=1),
            "default": st.just({"x-mcp-header": "Data"}),
        },
    ),
    max_leaves=6,
)
MARKED = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["string", "integer", "boolean"]),
        "x-mcp-header": st.sampled_from(["A", "B", "C"]),
    }
)
USABLE_SCHEMAS = st.dictionaries(
    PROPERTY_NAMES,
    MARKED | st.dictionaries(PROPERTY_NAMES, MARKED, max_size=1).map(lambda p: {"properties": p}),
    max_size=3,
).map(lambda properties: {"type": "object", "properties": properties})
ARGUMENTS = st.dictionaries(
    PROPERTY_NAMES, SCALARS | st.dictionaries(PROPERTY_NAMES, SCALARS, max_size=2), max_size=3
)
SENT = st.dictionaries(
    st.sampled_from(["mcp-param-a", "mcp-param-b", "mcp-param-c", "mcp-param-x"]),
    SCALARS.map(str).filter(lambda text: text.isascii() and text.isprintable()),
    max_size=3,
)


def refused_with(check: Callable[[], None]) -> int | None:
    """The code that a check refuses with, None where it does not."""
    try:
        check()
    except Refusal as refusal:
        return refusal.code
    return None


# --- the header codec


@given(st.text())
def test_any_text_survives_a_header(text: str) -> None:
    encoded = encode_header(text)
    assert decode_header(encoded) == text
    assert encoded.isascii()
    assert encoded == encoded.strip()
    assert encoded.isprintable()


@given(st.text() | st.sampled_from(["=?base64?eA==?=", "=?base64?eB==?=", "=?base64?", "a b"]))
def test_headers_are_written_and_read_as_the_sdk_does(text: str) -> None:
    assert encode_header(text) == official.encode_header_value(text)
    if "\n" not in text:
        assert decode_header(text) == official.decode_header_value(text)


@pytest.mark.parametrize("value", ["=?base64?eB==?=", "=?base64?!?=", "=?base64?/w==?=", None])
def test_a_header_that_is_not_well_formed_says_nothing(value: str | None) -> None:
    assert decode_header(value) is None


# --- headers that repeat arguments


@given(SCHEMAS)
def test_marks_are_valid_where_the_sdk_takes_them(schema: Any) -> None:
    refused = official.find_invalid_x_mcp_header(schema) is not None
    assert (unusable_param_header(schema) is not None) == refused


@given(SCHEMAS | USABLE_SCHEMAS, ARGUMENTS)
def test_arguments_are_repeated_as_the_sdk_does(schema: Any, arguments: dict[str, Any]) -> None:
    expected = {}
    if official.find_invalid_x_mcp_header(schema) is None:
        expected = official.mcp_param_headers(official.x_mcp_header_map(schema), arguments)
    assert param_headers(schema, arguments) == expected


@given(SCHEMAS | USABLE_SCHEMAS, ARGUMENTS, SENT, st.booleans())
def test_headers_are_accepted_where_the_sdk_accepts_them(
    schema: Any, arguments: dict[str, Any], sent: dict[str, str], honest: bool
) -> None:
    if honest:
        own = param_headers(schema, arguments)
        sent = {**sent, **{name.lower(): value for name, value in own.items()}}
    refused = official.validate_mcp_param_headers(schema, arguments, sent) is not None
    code = refused_with(lambda: check_param_headers(sent, schema, arguments))
    assert code == (modern.HEADER_MISMATCH if refused else None)


def test_a_header_that_came_twice_agrees_with_nothing() -> None:
    schema = {"properties": {"a": {"type": "string", "x-mcp-header": "A"}}}
    for arguments in ({"a": "x"}, {}):
        with pytest.raises(Refusal):
            check_param_headers({"mcp-param-a": None}, schema, arguments)


@pytest.mark.parametrize("given", ["42", "42.0", "042", "42.00"])
def test_a_whole_number_may_be_written_in_several_ways(given: str) -> None:
    schema = {"properties": {"a": {"type": "integer", "x-mcp-header": "A"}}}
    for value in (42, 42.0):
        check_param_headers({"mcp-param-a": given}, schema, {"a": value})
    for other in (43, 42.5, True, "42.01"):
        with pytest.raises(Refusal):
            check_param_headers({"mcp-param-a": given}, schema, {"a": other})


# --- the headers of every request


BODIES = [
    ("tools/call", {"name": "echo", "arguments": {}}),
    ("tools/call", {"name": "größe", "arguments": {}}),
    ("resources/read", {"uri": "x://ü"}),
    ("prompts/get", {"name": " p"}),
    ("tools/list", {}),
    ("server/discover", {}),
]


@pytest.mark.parametrize(("method", "params"), BODIES)
def test_the_gateways_own_headers_are_accepted_by_it_and_by_the_sdk(
    method: str, params: dict[str, Any]
) -> None:
    body = with_envelope(params, RequestEnvelope(REVISION, {}))
    headers = {k.lower(): v for k, v in request_headers(method, params, REVISION).items()}
    check_headers(headers, method, body, REVISION)
    route = official.classify_inbound_request({"method": method, "params": body}, headers=headers)
    assert isinstance(route, official.InboundModernRoute)


@pytest.mark.parametrize(("method", "params"), BODIES)
@pytest.mark.parametrize("how", ["missing", "other", "twice", "empty"])
def test_a_header_that_does_not_say_what_the_body_says_is_refused(
    method: str, params: dict[str, Any], how: str
) -> None:
    right = {k.lower(): v for k, v in request_headers(method, params, REVISION).items()}
    for name in right:
        wrong: dict[str, str | None] = {**right}
        if how == "missing":
            del wrong[name]
        else:
            wrong[name] = {"other": "x", "twice": None, "empty": ""}[how]
        with pytest.raises(Refusal) as refusal:
            check_headers(wrong, method, params, REVISION)
        assert refusal.value.code == modern.HEADER_MISMATCH


# --- the envelope


META_VALUES: st.SearchStrategy[Any] = (
    st.none() | st.just(REVISION) | st.just("2031-01-01") | st.just({}) | st.integers()
)
METAS = st.dictionaries(
    st.sampled_from([modern.PROTOCOL_VERSION, modern.CLIENT_CAPABILITIES, modern.CLIENT_INFO, "x"]),
    META_VALUES,
)


@given(st.dictionaries(st.sampled_from(["_meta", "a"]), METAS | META_VALUES))
def test_what_is_accepted_the_sdk_accepts_too(params: dict[str, Any]) -> None:
    route = official.classify_inbound_request({"method": "m", "params": params})
    code = refused_with(lambda: require_supported(read_envelope(params)))
    meta = params.get("_meta")
    capabilities = meta.get(modern.CLIENT_CAPABILITIES) if isinstance(meta, dict) else {}
    if isinstance(capabilities, dict):
        assert code == (route.code if isinstance(route, official.InboundLadderRejection) else None)
    else:  # the SDK does not look at their shape
        assert code == jsonrpc.INVALID_PARAMS


@given(st.dictionaries(st.text(max_size=3), st.integers(), max_size=2), st.booleans())
def test_an_envelope_can_be_put_on_and_taken_off(meta: dict[str, Any], has_meta: bool) -> None:
    params: dict[str, Any] = {"name": "n", **({"_meta": meta} if has_meta and meta else {})}
    envelope = RequestEnvelope(REVISION, {"roots": {}}, {"name": "c"}, "info")
    dressed = with_envelope(params, envelope)
    assert read_envelope(dressed) == envelope
    assert without_envelope(dressed) == params
    assert without_envelope(params) == params


def test_the_tables_are_the_sdks() -> None:
    assert tuple(MODERN_PROTOCOL_VERSIONS) == modern.MODERN_REVISIONS
    assert dict(official.NAME_BEARING_METHODS) == modern.NAMED_BY
    assert modern.HEADER_MISMATCH == jsonrpc.HEADER_MISMATCH
    assert modern.UNSUPPORTED_VERSION == jsonrpc.UNSUPPORTED_PROTOCOL_VERSION
    assert modern.MISSING_CLIENT_CAPABILITY == jsonrpc.MISSING_REQUIRED_CLIENT_CAPABILITY
    named = {method for method, revision in protocol.CLIENT_REQUESTS if revision == REVISION}
    assert named >= modern.CACHED_METHODS
    assert named >= modern.INPUT_METHODS
