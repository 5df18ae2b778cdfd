"""What the client's host tells its hook before a tool runs, read strictly (pure)."""

from typing import Final

import msgspec

from gateway.identity.identity import HostCall

MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
EVENT: Final = "PreToolUse"

_MAX_CHARS: Final = 256
_MAX_PATH_CHARS: Final = 16 * 1024


class Malformed(Exception):  # noqa: N818 - says what the message is
    """A message that no host writes, or one that is not understood; one sentence says why."""


class OtherEvent(Exception):  # noqa: N818 - as above
    """The message is about something other than a tool that is about to run."""


class Message(msgspec.Struct, frozen=True):
    """A tool that is about to run: what the host calls it, its input, and who asks for it.

    `cwd` is absolute.
    """

    host: HostCall
    cwd: str
    tool: str
    arguments: dict[str, object]


class _Wire(msgspec.Struct, frozen=True):
    hook_event_name: str
    session_id: str
    cwd: str
    tool_name: str
    tool_input: dict[str, object]
    tool_use_id: str
    agent_type: str | None = None
    agent_id: str | None = None


class _Event(msgspec.Struct, frozen=True):
    hook_event_name: str


def read_message(data: bytes) -> Message:
    """Read what the host wrote; raises Malformed or OtherEvent."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise Malformed(f"it is larger than {MAX_MESSAGE_BYTES} bytes")
    try:
        event = _decode_event(data).hook_event_name
        if event != EVENT:
            raise OtherEvent(f"it is about the event {event!r}, and only {EVENT} is decided")
        wire = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"it cannot be read: {error}") from None
    except RecursionError:
        raise Malformed("it is nested too deeply") from None
    for name in ("session_id", "tool_name", "tool_use_id", "agent_type", "agent_id"):
        value: str | None = getattr(wire, name)
        if value is not None and not (0 < len(value) <= _MAX_CHARS and value.isprintable()):
            raise Malformed(
                f"its {name} is empty, longer than {_MAX_CHARS} characters, or has characters "
                "that cannot be printed"
            )
    if wire.agent_id is not None and wire.agent_type is None:
        raise Malformed("it has an agent_id, but no agent_type")
    if not wire.cwd.startswith("/") and ":" not in wire.cwd[:3]:
        raise Malformed("its cwd is no absolute path")
    if len(wire.cwd) > _MAX_PATH_CHARS or "\0" in wire.cwd:
        raise Malformed("its cwd is no possible path")
    host = HostCall(wire.session_id, wire.tool_use_id, wire.agent_type, wire.agent_id)
    return Message(host, wire.cwd, wire.tool_name, wire.tool_input)


_decode_event = msgspec.json.Decoder(_Event).decode
_decode = msgspec.json.Decoder(_Wire).decode
