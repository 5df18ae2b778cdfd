"""One request of an HTTP client, and the way back to it."""

from __future__ import annotations

from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

from gateway.transports.http_messages import CONTENT_JSON, REPEATED, error_body

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.transports.http_inbound import InboundConnection

_SKIPPED_BYTES = 64 * 1024
"""How much of the body of a refused request is read past, so that the connection can be kept."""
_JOINED_BYTES = 64 * 1024
"""Up to here a copy costs less than a second buffer to write."""
_STARTS = {each.value: f"HTTP/1.1 {each.value} {each.phrase}\r\n".encode() for each in HTTPStatus}
_CLOSE = b"connection: close\r\n"
_CHUNKED = b"transfer-encoding: chunked\r\n"
_LAST_CHUNK = b"0\r\n\r\n"
_MAX_DIGITS = 18  # of a length


class Receiver(Protocol):
    """Takes the body of a request and answers it, now or later."""

    def __call__(self, body: bytes | None, size_bytes: int) -> None:
        """`body` is None where it is over the size limit; then `size_bytes` is what is known."""


class Application(Protocol):
    """Answers requests."""

    def accept(self, request: HttpRequest) -> Receiver | None:
        """Look at the headers of a request: who takes its body; None where it is answered."""


class _State(Enum):
    """Of an answer. `PLAIN`: it goes on as bytes, and ends with the connection."""

    OPEN = 0
    CHUNKS = 1
    PLAIN = 2
    OVER = 3


class HttpRequest:
    """One request. It is answered by `respond`, or by `begin`, any number of `write` and `end`.

    When the client goes away before the end, `gone` is called once, and nothing that is sent then
    does anything. `drained` is called when `writable` has become True again.

    `headers` are by lower-case name, without Authorization, whose values stand beside.
    """

    __slots__ = (
        "_connection",
        "_held",
        "_state",
        "authorization",
        "body",
        "complete",
        "drained",
        "gone",
        "headers",
        "http_1_1",
        "keep",
        "length_bytes",
        "method",
        "path",
        "problem",
        "query",
        "receiver",
        "size_bytes",
    )

    def __init__(
        self,
        connection: InboundConnection,
        method: str,
        path: str,
        headers: dict[bytes, bytes],
        authorization: tuple[bytes, ...],
        query: bytes = b"",
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.authorization = authorization
        self.gone: Callable[[], None] = _nothing
        self.drained: Callable[[], None] = _nothing
        self._connection = connection
        self._state = _State.OPEN
        self._held: bytes | None = None  # an answer that waits for the end of the request
        # For the connection:
        self.http_1_1 = True
        self.keep = True  # the connection can be kept afterwards
        self.problem: tuple[int, str] | None = None  # it is refused with this
        self.length_bytes = 0  # of the body, where the headers say so
        self.size_bytes = 0  # of the body so far
        self.body: bytes | bytearray = b""
        self.complete = False  # the whole body is there
        self.receiver: Receiver | None = None

    @property
    def loopback(self) -> bool:
        """Whether it came from this host."""
        return self._connection.loopback

    @property
    def writable(self) -> bool:
        """Whether the client takes more at the moment."""
        return self._connection.writable

    @property
    def answered(self) -> bool:
        """Whether an answer has begun."""
        return self._state is not _State.OPEN

    @property
    def peer(self) -> str:
        """The address that it came from."""
        return self._connection.peer

    def respond(
        self, status: int, body: bytes = b"", lines: bytes = b"", *, kind: bytes = CONTENT_JSON
    ) -> None:
        """Answer with a JSON body, or with none; `lines` are further headers with line ends.

        `kind` is the header line that says what else the body is.
        """
        if self._state is not _State.OPEN:
            return
        self._state = _State.OVER
        connection = self._connection
        if self.keep and not self.complete and not self._skips_body():
            self.keep = False
        if body:
            lines = kind + lines
        if status != HTTPStatus.NO_CONTENT:
            lines = b"content-length: %d\r\n%b" % (len(body), lines)
        head = self._head(status, lines)
        if self.method == "HEAD":
            body = b""
        if self.keep and not self.complete:
            self._held = head + body
            return
        if len(body) > _JOINED_BYTES:
            connection.send(head, body)
        else:
            connection.send(head + body)
        connection.finished(self)

    def refuse(self, status: int, message: str, lines: bytes = b"") -> None:
        """Answer with an error status, and say why."""
        self.respond(status, error_body(message), lines)

    def begin(self, lines: bytes, data: bytes, status: int = HTTPStatus.OK) -> None:
        """Answer with a body of a length that is not known yet, and its first part."""
        if self._state is not _State.OPEN:
            return
        self._state = _State.CHUNKS if self.http_1_1 else _State.PLAIN
        if self.http_1_1:
            lines += _CHUNKED
        self._send(self._head(status, lines), data, b"")

    def write(self, data: bytes) -> None:
        """Send a part of it; never an empty one."""
        if self._state is _State.CHUNKS or self._state is _State.PLAIN:
            self._send(b"", data, b"")

    def end(self, data: bytes) -> None:
        """The answer is over, with its last part if there is one."""
        if self._state is _State.CHUNKS or self._state is _State.PLAIN:
            self._send(b"", data, _LAST_CHUNK if self._state is _State.CHUNKS else b"")
            self._state = _State.OVER
            self._connection.finished(self)

    def abort(self) -> None:
        """Close the connection: the answer cannot be finished, and must not look as if it were."""
        self._state = _State.OVER
        self._connection.abort()

    # For the connection

    @property
    def sized(self) -> bool:
        """Whether the headers say how long the body is."""
        return b"transfer-encoding" not in self.headers

    def release(self) -> None:
        """The request has come to its end: send an answer that waited for it."""
        held, self._held = self._held, None
        if held is not None:
            self._connection.send(held)
            self._connection.finished(self)

    def lose(self) -> None:
        """The client has closed the connection."""
        if self._state is not _State.OVER:
            self._state = _State.OVER
            self.gone()

    def examine(self, version: str) -> None:
        """Find out why it is refused, though it can be parsed.

        Most of it the parser has refused already. But what decides where a request ends is not
        left to it alone.
        """
        length = self.headers.get(b"content-length", b"0")
        coding = self.headers.get(b"transfer-encoding")
        self.http_1_1 = version == "1.1"
        if version not in ("1.1", "1.0"):
            self.problem = 505, "The HTTP version is not supported"
        elif not self.path:
            self.problem = 400, "The request target must be a path"
        elif self.http_1_1 and self.headers.get(b"host", REPEATED) == REPEATED:
            self.problem = 400, "The request must have one Host header"
        elif not length.isdigit() or len(length) > _MAX_DIGITS:
            self.problem = 400, "The Content-Length is not acceptable"
        elif coding is not None and (
            coding.lower() != b"chunked" or b"content-length" in self.headers or not self.http_1_1
        ):
            self.problem = 400, "The Transfer-Encoding is not acceptable"
        elif self.headers.get(b"expect", b"100-continue").lower() != b"100-continue":
            self.problem = 417, "The Expect header is not supported"
        else:
            self.length_bytes = int(length)

    def _send(self, before: bytes, data: bytes, after: bytes) -> None:
        """Send a part of the body by one write, in the framing of the answer."""
        if data and self._state is _State.CHUNKS:
            before += b"%x\r\n" % len(data)
            after = b"\r\n" + after
        if len(data) > _JOINED_BYTES:
            self._connection.send(before, data, after)
        else:
            self._connection.send(before + data + after)

    def _head(self, status: int, lines: bytes) -> bytes:
        connection = self._connection
        if connection.stopping:
            self.keep = False
        close = b"" if self.keep else _CLOSE
        return b"%b%b%b%b\r\n" % (_STARTS[status], connection.date_line, lines, close)

    def _skips_body(self) -> bool:
        """Whether the rest of the body is known to be so small that it can be read past."""
        known = self.sized and b"expect" not in self.headers
        return known and self.length_bytes <= _SKIPPED_BYTES


def split_target(target: bytes) -> tuple[str, bytes]:
    """The path of a request target, empty where it has none, and its query; both percent-encoded.

    Decoded here, a `%2F` in the name of an agent would part it, and a name would be decoded twice:
    as something else than a proxy in front has read.
    """
    path, _, query = target.partition(b"?")
    return path.decode("ascii") if path.startswith(b"/") and path.isascii() else "", query


def _nothing() -> None:
    """Nobody has to know."""
