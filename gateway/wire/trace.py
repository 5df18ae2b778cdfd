"""Trace context in the `_meta` of a message: W3C Trace Context and Baggage, strictly read (pure).

What is not as the specifications say is as good as not there: it was written by somebody else.
"""

import re
from collections.abc import Mapping

import msgspec

_TRACEPARENT = re.compile(
    "(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.{1,200})?"
)
_SAMPLED = 1

_STATE_CHARS = 512
_STATE_MEMBERS = 32
_STATE_KEY = "[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13}"
_STATE_MEMBER = re.compile(rf"(?:{_STATE_KEY})=[ -+\x2d-<>-~]{{0,255}}[!-+\x2d-<>-~]")

_BAGGAGE_BYTES = 8_192
_BAGGAGE_MEMBERS = 64
_NAME = "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}"
_VALUE = r"[!#-+\x2d-:<-\[\]-~]{0,4096}"
_PROPERTY = re.compile(rf"[ \t]*{_NAME}[ \t]*(?:=[ \t]*{_VALUE}[ \t]*)?")
_BAGGAGE_PAIR = re.compile(rf"[ \t]*{_NAME}[ \t]*=[ \t]*{_VALUE}[ \t]*")


class TraceContext(msgspec.Struct, frozen=True):
    """Where a call stands in its trace; `state` is "" where there is none."""

    trace_id: str
    span_id: str
    sampled: bool
    state: str = ""

    @property
    def traceparent(self) -> str:
        """As it is written, in version 00."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def trace_context(meta: object) -> TraceContext | None:
    """The trace context that a `_meta` has, None where none can be used."""
    text = meta.get("traceparent") if isinstance(meta, Mapping) else None
    found = _TRACEPARENT.fullmatch(text) if isinstance(text, str) else None
    if found is None or not isinstance(meta, Mapping):
        return None
    version, trace_id, span_id, flags, more = found.groups()
    # A later version may say more behind, which is not passed on.
    if version == "00" and more is not None:
        return None
    state = meta.get("tracestate")
    return TraceContext(
        trace_id,
        span_id,
        bool(int(flags, 16) & _SAMPLED),
        state if isinstance(state, str) and _is_state(state) else "",
    )


def baggage(meta: object) -> str | None:
    """The baggage that a `_meta` has, None where none can be used."""
    text = meta.get("baggage") if isinstance(meta, Mapping) else None
    return text if isinstance(text, str) and _is_baggage(text) else None


def carried(params: dict[str, object], own: TraceContext) -> dict[str, object]:
    """The params with `own` as their trace context, and only such baggage as can be used."""
    meta = params.get("_meta", {})
    if not isinstance(meta, dict):
        return params
    kept = {key: value for key, value in meta.items() if key not in _KEYS}
    kept["traceparent"] = own.traceparent
    if own.state:
        kept["tracestate"] = own.state
    told = baggage(meta)
    if told is not None:
        kept["baggage"] = told
    return {**params, "_meta": kept}


_KEYS = frozenset(("traceparent", "tracestate", "baggage"))


def _is_state(text: str) -> bool:
    if len(text) > _STATE_CHARS:
        return False
    members = [member.strip(" \t") for member in text.split(",")]
    named = [member.partition("=")[0] for member in members if member]
    return (
        0 < len(named) <= _STATE_MEMBERS
        and len(set(named)) == len(named)
        and all(_STATE_MEMBER.fullmatch(member) for member in members if member)
    )


def _is_baggage(text: str) -> bool:
    if not text.isascii() or not 0 < len(text) <= _BAGGAGE_BYTES:
        return False
    members = text.split(",")
    if len(members) > _BAGGAGE_MEMBERS:
        return False
    for member in members:
        pair, *properties = member.split(";")
        if not _BAGGAGE_PAIR.fullmatch(pair) or not all(map(_PROPERTY.fullmatch, properties)):
            return False
    return True
