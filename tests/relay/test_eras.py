"""Results between the eras: what is added and taken away, and that nothing else changes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.relay.eras import carried, carried_error, discovered, initialized, input_required
from gateway.wire.envelope import MalformedFrame
from gateway.wire.modern import CACHED_METHODS, INPUT_METHODS, SERVER_INFO
from gateway.wire.params import encode

OWN = ("resultType", "ttlMs", "cacheScope")
METHODS = st.sampled_from(sorted({*CACHED_METHODS, *INPUT_METHODS, "completion/complete"}))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["public", "input_required", "complete"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.sampled_from(OWN), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = st.text(max_size=5) | st.sampled_from((*OWN, "content", "inputRequests"))
META = st.dictionaries(st.just(SERVER_INFO) | st.text(max_size=3), VALUES, max_size=3)
RESULTS = st.builds(
    lambda members, meta: members if meta is None else {**members, "_meta": meta},
    st.dictionaries(NAMES, VALUES, max_size=6),
    st.none() | META,
)
WRITTEN = st.builds(
    lambda value, ascii_only, spaced: json.dumps(
        value, ensure_ascii=ascii_only, separators=(", ", ": ") if spaced else (",", ":")
    ),
    RESULTS,
    st.booleans(),
    st.booleans(),
)


def read(encoded: bytes | memoryview) -> dict[str, Any]:
    """A result; fails where a name stands twice at any depth."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    value: dict[str, Any] = json.loads(bytes(encoded), object_pairs_hook=unique)
    return value


def rest(result: dict[str, Any], *names: str) -> dict[str, Any]:
    """A result without these members, and without what the server says of itself."""
    meta = result.get("_meta")
    kept = {name: value for name, value in result.items() if name not in names}
    if isinstance(meta, dict) and SERVER_INFO in meta:
        kept["_meta"] = {name: value for name, value in meta.items() if name != SERVER_INFO}
        if not kept["_meta"]:
            del kept["_meta"]
    return kept


def carry(method: str, text: str, *, from_modern: bool, to_modern: bool) -> bytes | memoryview:
    return carried(method, memoryview(text.encode()), from_modern=from_modern, to_modern=to_modern)


@given(METHODS, WRITTEN)
def test_the_handshake_era_changes_nothing(method: str, text: str) -> None:
    assert bytes(carry(method, text, from_modern=False, to_modern=False)) == text.encode()


@given(METHODS, WRITTEN)
def test_a_handshake_result_becomes_complete_and_private(method: str, text: str) -> None:
    result = read(carry(method, text, from_modern=False, to_modern=True))
    assert result["resultType"] == "complete"
    own = OWN if method in CACHED_METHODS else OWN[:1]
    if method in CACHED_METHODS:
        assert result["cacheScope"] == "private"
        assert "ttlMs" in result
    given_members = json.loads(text)
    assert {k: v for k, v in result.items() if k not in own} == {
        k: v for k, v in given_members.items() if k not in own
    }


@given(METHODS, WRITTEN)
def test_a_stateless_result_loses_what_its_era_added(method: str, text: str) -> None:
    result = read(carry(method, text, from_modern=True, to_modern=False))
    own = OWN if method in CACHED_METHODS else OWN[:1]
    assert result == rest(json.loads(text), *own)


@given(METHODS, WRITTEN)
def test_between_stateless_sides_only_the_scope_changes(method: str, text: str) -> None:
    result = read(carry(method, text, from_modern=True, to_modern=True))
    before = json.loads(text)
    if method in CACHED_METHODS:
        assert result.get("cacheScope", "private") == "private"
        assert "cacheScope" in result or "cacheScope" not in before
        result.pop("cacheScope", None)
        before.pop("cacheScope", None)
    assert result == before


@pytest.mark.parametrize(
    "text",
    [
        '{"cacheScope":"public","cacheScope":"private"}',
        '{"cacheScope":"private","cacheScope":"public"}',
        r'{"cacheSc\u006fpe":"public"}',
        r'{"cacheScope":"p\u0075blic"}',
        r'{"cacheScope":"private","cacheSc\u006fpe":"public"}',
        '{"cacheScope" : 7}',
    ],
)
@pytest.mark.parametrize("from_modern", [False, True])
def test_no_spelling_makes_a_list_public(text: str, from_modern: bool) -> None:
    carried_over = carry("resources/list", text, from_modern=from_modern, to_modern=True)
    assert read(carried_over)["cacheScope"] == "private"


@pytest.mark.parametrize(
    "text",
    [
        '{"resultType":"input_required","resultType":"complete"}',
        r'{"resultType":"input\u005frequired","resultType":"complete"}',
        r'{"result\u0054ype":"input_required","resultType":"complete"}',
    ],
)
def test_no_spelling_says_two_types(text: str) -> None:
    assert input_required("tools/call", memoryview(text.encode())) is None
    result = carry("tools/call", text, from_modern=True, to_modern=True)
    assert read(result) == {"resultType": "complete"}


@pytest.mark.parametrize(
    "text",
    [
        '{"resultType":"input_required"}',
        r'{"resultType":"input\u005frequired"}',
        r'{"result\u0054ype":"input_required"}',
        '{"resultType":"complete","resultType":"input_required"}',
        '{"resultType" : "input_required", "x": [1.50, {"a": "b"}]}',
    ],
)
def test_a_request_for_input_is_seen_behind_every_spelling(text: str) -> None:
    found = input_required("tools/call", memoryview(text.encode()))
    assert found is not None
    assert found["resultType"] == "input_required"
    assert input_required("completion/complete", memoryview(text.encode())) is None


@pytest.mark.parametrize(
    "text", ['{"content":["input_required"]}', '"input_required"', "7", '{"resultType":7}']
)
def test_nothing_else_is_a_request_for_input(text: str) -> None:
    assert input_required("tools/call", memoryview(text.encode())) is None


@pytest.mark.parametrize("text", ["7", "[]", "null", '"x"'])
@pytest.mark.parametrize(("from_modern", "to_modern"), [(True, False), (False, True)])
def test_a_result_that_is_no_object_cannot_be_carried_over(
    text: str, from_modern: bool, to_modern: bool
) -> None:
    with pytest.raises(MalformedFrame, match="no object"):
        carry("tools/call", text, from_modern=from_modern, to_modern=to_modern)


@given(WRITTEN)
def test_numbers_and_escapes_within_members_stay_as_they_were_written(text: str) -> None:
    members = f'{{"kept":{text},"number":1.50e1}}'
    result = bytes(carry("tools/call", members, from_modern=False, to_modern=True))
    assert text.encode() in result
    assert b"1.50e1" in result


@pytest.mark.parametrize(
    ("code", "from_modern", "to_modern", "told"),
    [
        (-32002, False, True, -32602),
        (-32002, False, False, -32002),
        (-32002, True, True, -32002),
        (-32603, False, True, -32603),
    ],
)
def test_a_missing_resource_has_a_code_of_each_era(
    code: int, from_modern: bool, to_modern: bool, told: int
) -> None:
    error = encode({"code": code, "message": "m", "data": {"uri": "x:"}})
    came = carried_error(error, from_modern=from_modern, to_modern=to_modern)
    assert json.loads(came) == {"code": told, "message": "m", "data": {"uri": "x:"}}


def test_each_handshake_can_be_made_from_the_other() -> None:
    server = {"name": "s", "version": "1"}
    old: dict[str, object] = {
        "protocolVersion": "2025-11-25",
        "capabilities": {"tools": {}},
        "serverInfo": server,
    }
    new = discovered({**old, "instructions": "i"}, ["2026-07-28"])
    assert new == {
        "supportedVersions": ["2026-07-28"],
        "capabilities": {"tools": {}},
        "instructions": "i",
        "resultType": "complete",
        "ttlMs": 0,
        "cacheScope": "private",
        "_meta": {SERVER_INFO: server},
    }
    assert initialized(new, "2025-11-25", "up") == {**old, "instructions": "i"}
    assert initialized(old, "2025-06-18", "up") == old
    assert discovered(new, ["2026-07-28"])["_meta"] == {SERVER_INFO: server}
