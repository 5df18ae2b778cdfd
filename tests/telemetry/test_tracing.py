"""Following calls on the event loop: their ids, what is sampled, and what is handed on."""

from collections.abc import Mapping

import msgspec
import pytest

from gateway.errors import UserError
from gateway.policy.values import Action, Decision
from gateway.telemetry.finished import Finished, SessionOver
from gateway.telemetry.sampling import sampler
from gateway.telemetry.sending import QUEUED, Sending, Target
from gateway.telemetry.tracing import MAX_TRACED_PER_S, Tracing
from gateway.telemetry.watch import Begun, Ended
from gateway.wire.trace import TraceContext, trace_context
from tests.policy.ruling import ruled

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Kept(Sending):
    """Keeps what would be sent."""

    def __init__(self) -> None:
        super().__init__(Target(True, True, None))
        self.over: list[Finished | SessionOver] = []

    def put(self, item: Finished | SessionOver) -> None:
        self.over.append(item)


def begun(call: str = "c", effect: str = "allow", **meta: object) -> Begun:
    params = {"name": "query", "arguments": {"q": 1}, "_meta": meta}
    decision = Decision(effect, "r", "r", tool_id="mcp__db__query", definition="d")  # type: ignore[arg-type] # allow or deny
    action = Action("tool", "tools/call", "db", "query")
    return Begun(call, 1_000, "s", "stdio", None, "a", action, decision, params)


def following(environ: Mapping[str, str] | None = None, **more: bool) -> tuple[Tracing, Kept]:
    kept, snapshot = Kept(), ruled()
    return Tracing(lambda: snapshot, kept, sampler(environ or {}), **more), kept


def finished(kept: Kept) -> Finished:
    (over,) = kept.over
    assert isinstance(over, Finished)
    return over


def test_the_upstream_is_told_the_span_that_is_the_gateways_own_as_its_client() -> None:
    tracing, kept = following()
    params = {"name": "query", "_meta": {"traceparent": f"00-{TRACE}-{SPAN}-01"}}
    assert tracing.decided(begun(**params["_meta"])) is None  # type: ignore[arg-type] # a mapping
    sent = trace_context(tracing.carried("c", params)["_meta"])
    tracing.ended(Ended("c", "ok", 5))
    spans = finished(kept).spans
    assert spans is not None
    assert sent == TraceContext(TRACE, spans.client, True)
    assert spans.parent == TraceContext(TRACE, SPAN, True)
    assert len({spans.own, spans.client, SPAN}) == 3
    assert finished(kept).error_type is None


def test_a_refused_call_is_over_at_once() -> None:
    tracing, kept = following()
    context = trace_context({"traceparent": tracing.decided(begun(effect="deny"))})
    over = finished(kept)
    assert over.error_type == "denied"
    assert over.sent_ns == 0
    assert over.spans is not None
    assert context == TraceContext(over.spans.trace_id, over.spans.own, True)


def test_a_call_that_nobody_follows_passes_as_it_is() -> None:
    tracing, _ = following()
    params = {"_meta": {"traceparent": "bad"}}
    assert tracing.carried("other", params) is params


def test_arguments_are_let_go_of_unless_they_are_asked_for() -> None:
    tracing, kept = following()
    tracing.decided(begun())
    tracing.ended(Ended("c", "ok", 5, result=memoryview(b"{}")))
    over = finished(kept)
    assert (over.arguments, over.result, over.begun.params) == (None, None, {})
    assert over.ended == Ended("c", "ok", 5)
    tracing, kept = following(arguments=True, results=True)
    tracing.decided(begun())
    tracing.ended(Ended("c", "ok", 5, result=memoryview(b'{"a": 1}')))
    assert (finished(kept).arguments, finished(kept).result) == ('{"q":1}', '{"a": 1}')


def test_of_a_flood_of_calls_only_so_many_have_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    tracing, kept = following()
    for second in (5, 6):
        monkeypatch.setattr("time.monotonic_ns", lambda now=second * 10**9: now)
        for number in range(MAX_TRACED_PER_S + 10):
            tracing.decided(begun(str(number), effect="deny"))
        over = [each.spans for each in kept.over if isinstance(each, Finished) and each.spans]
        kept.over.clear()
        assert len(over) == MAX_TRACED_PER_S + 10
        assert sum(spans.sampled for spans in over) == MAX_TRACED_PER_S


def test_sessions_are_told_when_they_are_over() -> None:
    tracing, kept = following()
    tracing.event("session.opened", "s", None)
    tracing.event("upstream.ready", "s", "db")
    tracing.event("upstream.exited", "s", "db")
    tracing.event("upstream.stopped", "s", "db")
    tracing.event("session.closed", "s", None)
    told = [over.upstream for over in kept.over if isinstance(over, SessionOver)]
    assert told == ["db", ""]


def test_a_full_queue_loses_the_oldest_and_nobody_waits() -> None:
    sending = Sending(Target(False, False, None))
    sending._thread = __import__("threading").Thread()  # one that takes nothing
    for number in range(QUEUED + 10):
        sending.put(SessionOver("", number))
    assert len(sending._queue) == QUEUED
    assert sending._queue[0] == SessionOver("", 10)


PARENT = TraceContext(TRACE, SPAN, True)
UNSAMPLED = TraceContext(TRACE, SPAN, False)
LOW, HIGH = "a" * 16 + "0" * 16, "a" * 16 + "f" * 16


@pytest.mark.parametrize(
    ("name", "argument", "parent", "trace_id", "kept"),
    [
        ("", "", None, HIGH, True),
        ("", "", UNSAMPLED, LOW, False),
        ("always_on", "", UNSAMPLED, HIGH, True),
        ("always_off", "", PARENT, LOW, False),
        ("parentbased_always_off", "", PARENT, LOW, True),
        ("traceidratio", "0.5", PARENT, HIGH, False),
        ("traceidratio", "0.5", UNSAMPLED, LOW, True),
        ("traceidratio", "1", None, HIGH, True),
        ("traceidratio", "0", None, LOW, False),
        ("parentbased_traceidratio", "0.5", None, HIGH, False),
        ("parentbased_traceidratio", "0.5", PARENT, HIGH, True),
    ],
)
def test_what_is_sampled(
    name: str, argument: str, parent: TraceContext | None, trace_id: str, kept: bool
) -> None:
    environ = {"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument}
    assert sampler(environ)(parent, trace_id) is kept


@pytest.mark.parametrize("argument", ["2", "-1", "half", "nan"])
def test_a_ratio_that_is_none_is_an_error(argument: str) -> None:
    with pytest.raises(UserError, match="from 0 to 1"):
        sampler({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": argument})


def test_what_models_and_upstreams_make_up_is_in_spans_only() -> None:
    tracing, kept = following()
    for number in range(50):
        call, action = f"c{number}", Action("prompt", "prompts/get", "db", f"made-up-{number}")
        tracing.decided(msgspec.structs.replace(begun(call), action=action))
        tracing.ended(Ended(call, "error", 5, number))
    over = [each for each in kept.over if isinstance(each, Finished)]
    assert len({tuple(each.attributes().items()) for each in over}) == 1
    assert over[7].attributes()["error.type"] == "other"
    assert over[7].details()["gen_ai.prompt.name"] == "made-up-7"
    assert over[7].details()["rpc.response.status_code"] == "7"
