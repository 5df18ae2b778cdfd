"""Trace context as it comes in `_meta`: taken where it is valid, else as good as not there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.trace import TraceContext, baggage, carried, trace_context

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


def test_a_valid_context_is_read() -> None:
    found = trace_context({"traceparent": PARENT, "tracestate": "rojo=1,a@b=x y"})
    assert found == TraceContext(TRACE, SPAN, True, "rojo=1,a@b=x y")
    assert found.traceparent == PARENT


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-comes-later", True),
    ],
)
def test_a_later_version_is_taken_as_far_as_it_is_known(text: str, sampled: bool) -> None:
    assert trace_context({"traceparent": text}) == TraceContext(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE}-{SPAN}-1",
        f"cc-{TRACE}-{SPAN}-01-{'x' * 500}",
        f"00-{TRACE}-{SPAN}-01\r\nX-Injected: 1",
        17,
        None,
        [PARENT],
    ],
)
def test_what_is_no_traceparent_is_not_there(text: object) -> None:
    assert trace_context({"traceparent": text}) is None


@pytest.mark.parametrize("meta", [None, [], "x", {}])
def test_without_meta_there_is_no_context(meta: object) -> None:
    assert trace_context(meta) is None
    assert baggage(meta) is None


@pytest.mark.parametrize(
    "state",
    ["", "a", "=1", "A=1", "a=1,a=2", "a=\n", "a=x=y", "a=\x1b[31m", "a=" + "x" * 600, 5],
)
def test_a_bad_tracestate_is_dropped_and_the_parent_kept(state: object) -> None:
    found = trace_context({"traceparent": PARENT, "tracestate": state})
    assert found == TraceContext(TRACE, SPAN, True)


@pytest.mark.parametrize("text", ["k=v", "userId=alice,node=DF%2028 ; p ; q = 1", "k="])
def test_valid_baggage_is_taken(text: str) -> None:
    assert baggage({"baggage": text}) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "k",
        "k=v,",
        "k=a b",
        "k=v\r\nX: y",
        "ü=1",
        "k=ü",
        'k="v"',
        "k=" + "v" * 9_000,
        "k=v;;",
        5,
    ],
)
def test_other_baggage_is_dropped(text: object) -> None:
    assert baggage({"baggage": text}) is None


def test_what_is_carried_is_our_own_context_beside_everything_else() -> None:
    own = TraceContext(TRACE, "1" * 16, False, "a=1")
    params = {"name": "x", "_meta": {"traceparent": "bad", "baggage": "k=v", "vendor/x": [1]}}
    assert carried(params, own) == {
        "name": "x",
        "_meta": {
            "vendor/x": [1],
            "traceparent": f"00-{TRACE}-{'1' * 16}-00",
            "tracestate": "a=1",
            "baggage": "k=v",
        },
    }
    assert params["_meta"] == {"traceparent": "bad", "baggage": "k=v", "vendor/x": [1]}


def test_hostile_values_are_not_carried() -> None:
    own = TraceContext(TRACE, SPAN, True)
    meta = {"traceparent": PARENT + "\n", "tracestate": "a=\n", "baggage": "k=\n"}
    assert carried({"_meta": meta}, own) == {"_meta": {"traceparent": PARENT}}


def test_a_meta_that_is_none_is_left_to_the_upstream() -> None:
    assert carried({"_meta": 7}, TraceContext(TRACE, SPAN, True)) == {"_meta": 7}


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=200))
def test_nothing_that_is_read_could_break_a_line(parent: str, state: str, bag: str) -> None:
    meta = {"traceparent": parent, "tracestate": state, "baggage": bag}
    found = trace_context({**meta, "traceparent": PARENT})
    assert found is not None
    for text in (found.state, baggage(meta) or ""):
        assert text.isascii()
        assert text == "" or all(" " <= character <= "~" or character == "\t" for character in text)
    trace_context(meta)
