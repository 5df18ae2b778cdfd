"""What HTTP requests of MCP clients say in their headers, and what answers are made of."""

from gateway.wire import frames

JSON = b"application/json"
EVENTS = b"text/event-stream"
REPEATED = b"\0"
"""Stands for the value of a header that came more than once."""
CONTENT_JSON = b"content-type: application/json\r\n"
CONTENT_EVENTS = (
    b"content-type: text/event-stream\r\ncache-control: no-store\r\nx-accel-buffering: no\r\n"
)
_USUAL_ACCEPT = b"application/json, text/event-stream"


class Refused(Exception):  # noqa: N818 - an answer, not an error of ours
    """The request is answered with an error status; `lines` are further headers."""

    def __init__(self, status: int, message: str, lines: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.lines = lines


def error_body(message: str) -> bytes:
    """The body of an answer with an error status."""
    return frames.error(None, frames.INVALID_REQUEST, message)


def header_line(name: str, value: str) -> bytes:
    """One header with its line end. Raises ValueError for a value that would break out of it."""
    if not value.isascii() or not value.isprintable():
        raise ValueError(f"the value of {name} cannot stand in a header")
    return f"{name}: {value}\r\n".encode()


def accepts(accept: bytes, media_type: bytes) -> bool:
    """Whether an Accept header names a media type."""
    if accept == _USUAL_ACCEPT:
        return media_type in (JSON, EVENTS)
    wanted = (media_type, media_type.split(b"/")[0] + b"/*", b"*/*")
    return any(part.split(b";")[0].strip().lower() in wanted for part in accept.split(b","))


def is_json(content_type: bytes) -> bool:
    """Whether a Content-Type header says JSON."""
    return content_type == JSON or content_type.split(b";")[0].strip().lower() == JSON


def host_name(host: str) -> str:
    """A Host header without its port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
