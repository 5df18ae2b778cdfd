"""Follows calls for OpenTelemetry on the event loop; a thread is given what is over, to send it."""

import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from gateway.policy.snapshot import Snapshot
from gateway.telemetry.finished import SHOWN_CHARS, Finished, SessionOver, Spans
from gateway.telemetry.names import Names
from gateway.telemetry.sampling import Sampler
from gateway.telemetry.watch import Begun, Ended
from gateway.wire.params import Params, encode
from gateway.wire.trace import TraceContext, carried, trace_context

if TYPE_CHECKING:
    from gateway.telemetry.sending import Sending

MAX_OPEN = 100_000
MAX_TRACED_PER_S = 1_000
"""How many calls of a second have spans: to make one and encode it takes about 50 us of the
processor, for which calls would have to wait."""


class _Open(msgspec.Struct):
    begun: Begun
    tool: str
    spans: Spans | None
    sent_ns: int = 0


class Tracing:
    """Is a Watch. `sampler` is None where only metrics are sent.

    `arguments` and `results`: spans hold those of tool calls.
    """

    def __init__(
        self,
        in_force: Callable[[], Snapshot],
        sending: "Sending",
        sampler: Sampler | None,
        *,
        arguments: bool = False,
        results: bool = False,
    ) -> None:
        self._names = Names(in_force)
        self._sending = sending
        self._sampler = sampler
        self._arguments = arguments
        self._results = results
        self._open: dict[str, _Open] = {}
        self._sessions: dict[tuple[str, str], float] = {}
        self._second = self._traced = 0

    def decided(self, begun: Begun) -> str | None:
        """See Watch."""
        spans = None if self._sampler is None else self._spans(begun.params, self._sampler)
        opened = _Open(begun, self._names.tool(begun), spans)
        if begun.decision.refuses:
            self._finish(opened, None)
        elif len(self._open) < MAX_OPEN:
            self._open[begun.call] = opened
        if spans is None or spans.parent is not None:
            return None
        return TraceContext(spans.trace_id, spans.own, spans.sampled).traceparent

    def ended(self, ended: Ended) -> None:
        """See Watch."""
        opened = self._open.pop(ended.call, None)
        if opened is not None:
            self._finish(opened, ended)

    def event(self, event: str, session: str | None, upstream: str | None) -> None:
        """See Watch."""
        key = (upstream or "", session or "")
        if event in _BEGIN and len(self._sessions) < MAX_OPEN:
            self._sessions[key] = time.monotonic()
        elif event in _END:
            begun = self._sessions.pop(key, None)
            if begun is not None:
                self._sending.put(SessionOver(key[0], time.monotonic() - begun))

    def carried(self, call: str, params: Params) -> Params:
        """The params of a call that leaves for its upstream, with the context it is to go on in."""
        opened = self._open.get(call)
        if opened is None:
            return params
        if not opened.sent_ns:
            opened.sent_ns = time.monotonic_ns()
        spans = opened.spans
        if spans is None:
            return params
        state = spans.parent.state if spans.parent is not None else ""
        return carried(params, TraceContext(spans.trace_id, spans.client, spans.sampled, state))

    def stop(self) -> None:
        """Send what is left, if that takes no longer than a moment."""
        self._sending.stop()

    def _spans(self, params: Mapping[str, object], sampler: Sampler) -> Spans:
        parent = trace_context(params.get("_meta"))
        chance = os.urandom(32).hex()
        trace_id = chance[:32] if parent is None else parent.trace_id
        sampled = sampler(parent, trace_id) and self._has_room()
        return Spans(trace_id, parent, chance[32:48], chance[48:], sampled)

    def _has_room(self) -> bool:
        """Whether one more call may have spans in this second."""
        second = time.monotonic_ns() // 1_000_000_000
        if second != self._second:
            self._second, self._traced = second, 0
        self._traced += 1
        return self._traced <= MAX_TRACED_PER_S

    def _finish(self, opened: _Open, ended: Ended | None) -> None:
        begun = opened.begun
        arguments = result = None
        if begun.action.kind == "tool" and opened.spans is not None and opened.spans.sampled:
            if self._arguments and "arguments" in begun.params:
                text = encode(begun.params["arguments"]).decode()
                arguments = text[:SHOWN_CHARS]
            if self._results and ended is not None and ended.result is not None:
                result = bytes(ended.result[:SHOWN_CHARS]).decode("utf-8", "ignore")
        now = time.monotonic_ns()
        if ended is not None:
            now = min(now, begun.started_ns + ended.duration_us * 1_000)
        self._sending.put(
            Finished(
                msgspec.structs.replace(begun, params={}),
                opened.tool,
                self._names.method(begun),
                opened.spans,
                opened.sent_ns,
                now,
                None if ended is None else msgspec.structs.replace(ended, result=None),
                arguments,
                result,
            )
        )


_BEGIN = frozenset(("session.opened", "upstream.ready"))
_END = frozenset(("session.closed", "upstream.exited", "upstream.stopped"))
