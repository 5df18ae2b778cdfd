"""Params: what is decided on is the only value that anybody can read out of them."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire.envelope import MAX_DEPTH, MalformedFrame
from gateway.wire.params import decode_object, decode_params, encode, is_deep

KEYS = st.sampled_from(["name", "arguments", "k", "K", "é", "e\u0301", "", "Name", "URI", "_Meta"])
GUARDED_LOOKALIKES = {"Name", "URI", "_Meta"}


@st.composite
def json_texts(draw: st.DrawFn, levels: int = 3) -> str:
    """JSON text, now and then with a key twice."""
    kind = draw(st.integers(0, 5 if levels else 2))
    if kind == 0:
        return json.dumps(draw(st.text(max_size=4)), ensure_ascii=draw(st.booleans()))
    if kind == 1:
        return draw(st.sampled_from(["1", "-0", "1.0", "1e3", "1E400", "123456789012345678901234"]))
    if kind == 2:
        return draw(
            st.sampled_from(["null", "true", "false", "NaN", '"\\ud800"', '"\\ud83d\\ude00"'])
        )
    if kind == 3:
        return "[" + ",".join(draw(st.lists(json_texts(levels - 1), max_size=3))) + "]"
    return draw(objects(levels - 1))


@st.composite
def objects(draw: st.DrawFn, levels: int = 3) -> str:
    keys = draw(st.lists(KEYS, max_size=4, unique=draw(st.integers(0, 3)) > 0))
    members = []
    for key in keys:
        name = json.dumps(key)
        if key and draw(st.integers(0, 4)) == 0:
            name = f'"\\u{ord(key[0]):04x}{key[1:]}"'
        members.append(f"{name}:{draw(json_texts(levels))}")
    return "{" + ",".join(members) + "}"


def reference(text: str) -> Any:
    """The value by the standard library, or None where it may be read in two ways."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("twice")
        return dict(pairs)

    def no_constant(name: str) -> None:
        raise ValueError(name)

    def finite(number: str) -> float:
        if float(number) in (float("inf"), float("-inf")):
            raise ValueError(number)
        return float(number)

    try:
        value = json.loads(
            text, object_pairs_hook=once, parse_constant=no_constant, parse_float=finite
        )
        json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate has no UTF-8
    except ValueError:
        return None
    return None if GUARDED_LOOKALIKES & set(value) else value


@settings(max_examples=150, deadline=None)
@given(objects())
def test_accepted_is_exactly_what_the_standard_library_reads_in_one_way(text: str) -> None:
    expected = reference(text)
    if expected is None:
        with pytest.raises(MalformedFrame):
            decode_params(text.encode())
    else:
        params = decode_params(text.encode())
        assert params == expected
        assert json.loads(encode(params)) == expected


def test_no_params_are_an_empty_object() -> None:
    assert decode_params(None) == {}


@pytest.mark.parametrize("wrap", ["{0}", '{{"x":{0}}}', '{{"x":[[{0}]]}}', '{{"x":[{{"y":{0}}}]}}'])
@pytest.mark.parametrize(
    "inner", ['{"a":1,"a":1}', '{"a":1,"\\u0061":2}', '{"":0,"":0}', '{"a":{"b":1,"b":2}}']
)
def test_a_key_twice_is_refused_at_every_depth(wrap: str, inner: str) -> None:
    with pytest.raises(MalformedFrame, match="twice"):
        decode_params(wrap.format(inner).encode())


@pytest.mark.parametrize(
    "name",
    [
        *(
            "Name",
            "NAME",
            "nam\uff45",
            "\uff2eame",
            "ARGUMENTS",
            "argument\u017f",
            "ta\u017f\u212a",
        ),
        *("Uri", "URI", "u\u24c7i", "Method", "ID", "_META", "_Meta", "Params", "param\u017f"),
        *("TaskId", "taskID", "taskid", "Ref", "Task", "requestid", "RequestID"),
    ],
)
def test_a_look_alike_of_a_name_that_decides_is_refused(name: str) -> None:
    with pytest.raises(MalformedFrame, match="look-alike"):
        decode_params(json.dumps({"name": "allowed", name: "other"}).encode())


@pytest.mark.parametrize("name", ["Name", "URI", "Type"])
def test_a_look_alike_in_the_target_of_a_completion_is_refused(name: str) -> None:
    params = {"ref": {"type": "ref/prompt", "name": "allowed", name: "other"}}
    with pytest.raises(MalformedFrame, match="look-alike"):
        decode_params(json.dumps(params).encode())


def test_names_inside_the_arguments_are_the_tools_own_business() -> None:
    params = {"name": "a", "arguments": {"Name": 1, "NAME": 2, "URI": 3, "ref": {"Name": 1}}}
    assert decode_params(json.dumps(params).encode()) == params


class TestDepth:
    @staticmethod
    def nested(levels: int, *, lists: bool) -> bytes:
        """An object of `levels` levels, itself included."""
        more = levels - 1
        if lists:
            return b'{"a":' + b"[" * more + b"]" * more + b"}" if more else b"{}"
        return b'{"a":' * more + b"{}" + b"}" * more

    @pytest.mark.parametrize("lists", [True, False])
    def test_the_limit_is_exact(self, lists: bool) -> None:
        decode_params(self.nested(MAX_DEPTH, lists=lists))
        with pytest.raises(MalformedFrame, match="deep"):
            decode_params(self.nested(MAX_DEPTH + 1, lists=lists))

    @pytest.mark.parametrize("levels", [100, 900, *range(960, 1010), 100_000])
    def test_no_depth_leads_to_another_error(self, levels: int) -> None:
        with pytest.raises(MalformedFrame, match="deep"):
            decode_params(self.nested(levels, lists=True))

    def test_wide_is_not_deep(self) -> None:
        wide = {"a": [[{"b": [number]}] for number in range(1000)]}
        assert decode_params(json.dumps(wide).encode()) == wide
        assert not is_deep(wide)
        assert not is_deep("text")


def test_an_object_is_called_what_it_is() -> None:
    with pytest.raises(MalformedFrame, match="the members of the result"):
        decode_object(b"[1]", "members of the result")


def test_a_large_argument_passes_unchanged() -> None:
    params = {"name": "a", "arguments": {"text": "x\u2028é😀" * (1 << 20)}}
    assert decode_params(json.dumps(params).encode()) == params
