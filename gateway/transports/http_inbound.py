"""One connection of an HTTP client: its bytes become requests, answers become bytes.

Requests are answered in the order in which they came. One that comes before the answer to the one
before it waits, and nothing more is read meanwhile.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
from collections import deque
from typing import TYPE_CHECKING, cast

import httptools

from gateway.transports.http_exchange import HttpRequest, split_target
from gateway.transports.http_messages import REPEATED

if TYPE_CHECKING:
    from gateway.transports.http_listener import HttpListener

MAX_HEADER_BYTES = 64 * 1024
"""What request line and headers may have together, and what may stand between parts of a body.

Behind another request in one read it can be more by what a read brings."""
MAX_HEADERS = 100
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class InboundConnection(asyncio.Protocol):
    """See the module. The listener makes one for each client that connects."""

    __slots__ = (
        "__weakref__",
        "_authorization",
        "_begun",
        "_current",
        "_deaf",
        "_headers",
        "_listener",
        "_loose_bytes",
        "_parser",
        "_parsing",
        "_reading",
        "_stalled_s",
        "_transport",
        "_unsent_bytes",
        "_url",
        "_waiting",
        "deadline_s",
        "loopback",
        "writable",
    )

    def __init__(self, listener: HttpListener) -> None:
        self.loopback = False
        self.writable = True
        self.deadline_s = math.inf
        """When the listener is to call `expire`."""
        self._listener = listener
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._current: HttpRequest | None = None  # it is being answered
        self._parsing: HttpRequest | None = None  # its headers are there, its body is not
        self._waiting: deque[HttpRequest] | None = None
        self._begun = False  # a request has begun, its headers are not complete
        self._deaf = False  # what comes from now on is thrown away
        self._reading = True
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._authorization: tuple[bytes, ...] = ()
        self._loose_bytes = 0  # received since headers or a part of a body were complete
        self._unsent_bytes = 0  # when the client was last seen to take something
        self._stalled_s = 0.0  # and when that was

    @property
    def idle(self) -> bool:
        """Whether there is nothing to answer."""
        return self._current is None and not self._begun

    def expire(self) -> None:
        """The deadline is over: the client was too slow, or had nothing to say."""
        if self._deaf or self._transport.is_closing():
            self._transport.abort()
        elif self._begun or self._current is not None:
            self._refuse(408, "The request took too long")
        else:
            self.close()

    def watch(self, now_s: float) -> None:
        """Close a connection whose client takes nothing any more."""
        unsent_bytes = self._transport.get_write_buffer_size()
        if unsent_bytes < self._unsent_bytes:
            self._unsent_bytes = unsent_bytes
            self._stalled_s = now_s
        elif now_s - self._stalled_s > self._listener.times.stall_s:
            self._transport.abort()

    def close(self) -> None:
        """Close it as soon as what was sent has left."""
        self._deaf = True
        self.deadline_s = self._listener.now_s + self._listener.times.stall_s
        self._transport.close()

    def abort(self) -> None:
        """Close it at once."""
        self._transport.abort()

    # For the requests

    @property
    def date_line(self) -> bytes:
        """The Date header, with its line end."""
        return self._listener.date_line

    @property
    def peer(self) -> str:
        """The client's address."""
        peer = self._transport.get_extra_info("peername")
        return str(peer[0]) if isinstance(peer, tuple) else ""

    @property
    def stopping(self) -> bool:
        """Whether every answer is the last one."""
        return self._listener.stopping

    def send(self, *parts: bytes) -> None:
        """Write to the client, by one system call if it takes as much."""
        if self._transport.is_closing():
            return
        if len(parts) == 1:
            self._transport.write(parts[0])
        else:
            self._transport.writelines(parts)

    def finished(self, request: HttpRequest) -> None:
        """The answer to the current request is on its way."""
        if request is not self._current:
            return
        self._current = None
        if not request.keep:
            self._end(clean=request.complete and request.problem is None)
        elif self._waiting:
            # Not called here: the session is in the middle of its answer.
            self._listener.loop.call_soon(self._next)
        else:
            times = self._listener.times
            limit_s = times.header_s if self._begun else times.idle_s
            self.deadline_s = self._listener.now_s + limit_s

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self.loopback = _is_loopback(transport.get_extra_info("peername"))
        self._listener.opened(self)
        self.deadline_s = self._listener.now_s + self._listener.times.header_s

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.lost(self)
        self._waiting = self._parsing = None
        current, self._current = self._current, None
        if current is not None:
            current.lose()

    def pause_writing(self) -> None:
        self.writable = False
        self._unsent_bytes = self._transport.get_write_buffer_size()
        self._stalled_s = self._listener.now_s

    def resume_writing(self) -> None:
        self.writable = True
        if self._current is not None:
            self._current.drained()
        else:
            self._next()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._loose_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._deaf = True  # the request itself is answered, as HTTP/1.1
        except httptools.HttpParserCallbackError as error:
            self._broken(error.__context__ or error)
        except httptools.HttpParserError:
            if not self._deaf:
                self._refuse(400, "The request is not valid HTTP/1.1")
        else:
            if self._loose_bytes > MAX_HEADER_BYTES and not self._deaf:
                status = 431 if self._begun else 400
                self._refuse(status, "The request has too much around its body")

    # httptools

    def on_message_begin(self) -> None:
        self._begun = True
        self._url = b""
        self._headers = {}
        self._authorization = ()
        if self._current is None:
            self.deadline_s = self._listener.now_s + self._listener.times.header_s

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._begun:
            return  # a trailer
        name, value = name.lower(), value.rstrip(b" \t")
        headers = self._headers
        if name == b"authorization":
            self._authorization += (value,)
        elif name not in headers:
            headers[name] = value
        elif name == b"accept":
            headers[name] += b", " + value
        else:
            headers[name] = REPEATED

    def on_headers_complete(self) -> None:
        self._begun = False
        if self._deaf:
            return
        parser = self._parser
        method, (path, query) = parser.get_method().decode("latin-1"), split_target(self._url)
        request = HttpRequest(self, method, path, self._headers, self._authorization, query)
        request.examine(parser.get_http_version())
        if len(self._headers) + len(self._authorization) > MAX_HEADERS or (
            self._loose_bytes > MAX_HEADER_BYTES and self._size_of_headers() > MAX_HEADER_BYTES
        ):
            request.problem = 431, "The request's headers are too large"
        elif parser.should_upgrade() and (request.length_bytes or not request.sized):
            # The parser takes what follows for the other protocol, and not for a body.
            request.problem = 400, "A request with a body cannot ask for another protocol"
        self._loose_bytes = 0
        request.keep = (
            request.problem is None
            and request.http_1_1
            and parser.should_keep_alive()
            and not parser.should_upgrade()
        )
        self._parsing = request
        if self._current is None and not self._waiting and self.writable:
            self._begin(request)
        else:
            self._wait(request)

    def on_body(self, chunk: bytes) -> None:
        self._loose_bytes = 0
        request = self._parsing
        if request is None or self._deaf or request.answered:
            return
        request.size_bytes += len(chunk)
        if request.size_bytes > self._listener.max_body_bytes:
            request.body = b""
            if request is self._current:
                self._deliver(request)
        elif not request.body:
            request.body = chunk
        else:
            if isinstance(request.body, bytes):
                request.body = bytearray(request.body)
            request.body += chunk

    def on_message_complete(self) -> None:
        self._loose_bytes = 0
        request, self._parsing = self._parsing, None
        if request is None or self._deaf:
            return
        request.complete = True
        if not request.keep:
            self._deaf = True
        if request is not self._current:
            return
        if request.answered:
            request.release()
        else:
            self._deliver(request)

    # Requests in order

    def _begin(self, request: HttpRequest) -> None:
        """It is a request's turn."""
        self._current = request
        self.deadline_s = self._listener.now_s + self._listener.times.body_s
        if request.problem is not None:
            request.refuse(*request.problem)
            return
        request.receiver = self._listener.application.accept(request)
        if request.answered:
            return
        limit_bytes = self._listener.max_body_bytes
        if request.complete or max(request.length_bytes, request.size_bytes) > limit_bytes:
            self._deliver(request)
        elif b"expect" in request.headers and request.http_1_1 and not request.size_bytes:
            self.send(_CONTINUE)

    def _size_of_headers(self) -> int:
        """Asked only when as much has come that it could be too much."""
        fields = sum(len(name) + len(value) for name, value in self._headers.items())
        return len(self._url) + fields + sum(map(len, self._authorization))

    def _deliver(self, request: HttpRequest) -> None:
        """Give a request the body that has come, or the news that it is too large."""
        receiver, request.receiver = request.receiver, None
        if receiver is None:
            return
        self.deadline_s = math.inf
        body, request.body = request.body, b""
        size_bytes = max(request.length_bytes, request.size_bytes)
        if size_bytes > self._listener.max_body_bytes:
            receiver(None, size_bytes)
        else:
            receiver(bytes(body), size_bytes)

    def _wait(self, request: HttpRequest) -> None:
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(request)
        if self._reading:
            self._reading = False
            self._transport.pause_reading()

    def _next(self) -> None:
        """Turn to the request that waits, if its turn has come."""
        if not self._waiting or self._current is not None or not self.writable:
            return
        request = self._waiting.popleft()
        if not self._waiting and not self._reading and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()
        try:
            self._begin(request)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client must not hang
            self._broken(error)

    # The end

    def _refuse(self, status: int, message: str) -> None:
        """What comes cannot be read any further: answer what came before it, then say so."""
        self._deaf = True
        self._begun = False
        request, self._parsing = self._parsing, None
        if request is None:
            request = HttpRequest(self, "", "", {}, ())
            request.complete = True
            request.problem = status, message
            request.keep = False
            if self._current is None and not self._waiting:
                self._begin(request)
            else:
                self._wait(request)
            return
        request.keep = False
        if request is not self._current:
            request.problem = status, message
        elif request.answered:
            request.release()
        else:
            request.refuse(status, message)

    def _broken(self, error: BaseException) -> None:
        """Something of ours went wrong: tell whoever looks after the event loop, and close."""
        self._listener.loop.call_exception_handler(
            {"message": "a request could not be answered", "exception": error}
        )
        self._deaf = True
        current = self._current
        if current is None or current.answered:
            self._transport.abort()
            return
        current.keep = False
        current.refuse(500, "The gateway failed to answer")

    def _end(self, *, clean: bool) -> None:
        """Close after the last answer.

        Where the client may still be sending, closing at once would reset the connection, and the
        answer be lost: what comes is thrown away for a moment.
        """
        self._deaf = True
        if clean or self._transport.is_closing():
            self.close()
            return
        if not self._reading:
            self._reading = True
            self._transport.resume_reading()
        self.deadline_s = self._listener.now_s + self._listener.times.linger_s
        self._transport.write_eof()


def _is_loopback(peer: object) -> bool:
    """Whether an address, as a socket gives it, is one of this host's own."""
    if not isinstance(peer, tuple):
        return False
    address = ipaddress.ip_address(str(peer[0]).partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
