"""The frames that the load client sends, and what it looks at in the ones that it gets."""

import json
import re

import msgspec

REVISION = "2025-06-18"
"""A revision that every peer speaks."""

_ID = re.compile(rb'"id"\s*:\s*(\d+)')
_SMALL_BYTES = 4096
_EVENT_DATA = b"data:"


class BadAnswerError(Exception):
    """An answer that is an error, or not an answer at all."""


class CallSpec(msgspec.Struct, frozen=True):
    """One tool call: `params` encoded, and what its answer must at least hold."""

    params: bytes
    result_bytes: int


def echo(text: str = "a short text", *, tool: str = "echo") -> CallSpec:
    """A call that gets a short text back."""
    params = {"name": tool, "arguments": {"text": text}}
    return CallSpec(msgspec.json.encode(params), len(text))


def blob(size_bytes: int, *, wide: bool = False, tool: str = "blob") -> CallSpec:
    """A call that gets so many bytes of text back, `wide`: not ASCII."""
    arguments: dict[str, object] = {"size": size_bytes}
    if wide:
        arguments["wide"] = True
    params = {"name": tool, "arguments": arguments}
    return CallSpec(msgspec.json.encode(params), size_bytes - 4)


def request(identifier: int, method: str, params: bytes) -> bytes:
    """A request's frame."""
    return b'{"jsonrpc":"2.0","id":%d,"method":"%b","params":%b}' % (
        identifier,
        method.encode(),
        params,
    )


def initialize(identifier: int) -> bytes:
    """The handshake's frame."""
    params = {
        "protocolVersion": REVISION,
        "capabilities": {},
        "clientInfo": {"name": "bench", "version": "1"},
    }
    return request(identifier, "initialize", msgspec.json.encode(params))


INITIALIZED = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'


def identifier_of(frame: bytes) -> int | None:
    """The id of an answer, which stands near one of its ends. None for what answers nothing."""
    if b'"method"' in frame[:256]:
        return None
    found = _ID.search(frame, 0, 256) or _ID.search(frame, max(0, len(frame) - 256))
    return int(found[1]) if found is not None else None


def check(frame: bytes, call: CallSpec) -> None:
    """Raise BadAnswerError unless the frame looks like a good answer, seen from its ends."""
    small = len(frame) <= _SMALL_BYTES
    if b'"result"' not in (frame if small else frame[:300] + frame[-300:]):
        raise BadAnswerError(f"an answer without a result: {shown(frame)}")
    if small and (b'"isError":true' in frame or b'"isError": true' in frame):
        raise BadAnswerError(f"a tool error: {shown(frame)}")
    if len(frame) < call.result_bytes:
        raise BadAnswerError(f"an answer that is too short: {shown(frame)}")


def shown(frame: bytes) -> str:
    """The beginning of a frame, for a message."""
    return frame[:300].decode(errors="replace")


def result_of(frame: bytes) -> dict[str, object]:
    """The result of an answer, decoded. Raises BadAnswerError."""
    try:
        answer = json.loads(frame)
    except ValueError:
        raise BadAnswerError(f"no JSON: {shown(frame)}") from None
    result = answer.get("result") if isinstance(answer, dict) else None
    if not isinstance(result, dict):
        raise BadAnswerError(f"no result: {shown(frame)}")
    return result


def from_events(body: bytes) -> bytes:
    """The message that answers, out of a body in event-stream format."""
    for event in reversed(body.replace(b"\r\n", b"\n").split(b"\n\n")):
        lines = [
            line[len(_EVENT_DATA) :].strip()
            for line in event.split(b"\n")
            if line.startswith(_EVENT_DATA)
        ]
        frame = b"\n".join(lines)
        if frame and identifier_of(frame) is not None:
            return frame
    raise BadAnswerError(f"no answer among the events: {shown(body)}")
