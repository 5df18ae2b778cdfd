"""An ASGI application under a path of the listener's own; it is made when it is first asked for.

The listener's rules hold as for everything else: what a request is, how long it may take to come,
whose Host and Origin headers it has, and how long a client may take nothing of its answer. Beside
them stand bounds of its own, so that pages never take from calls: on the size of a body, on how
many requests are worked on at a time, and on how long one takes to be answered.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote

import msgspec

from gateway.transports.http_messages import REPEATED

if TYPE_CHECKING:
    from gateway.transports.http_exchange import HttpRequest, Receiver

Message: TypeAlias = MutableMapping[str, Any]
AsgiApp: TypeAlias = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BAD_VALUE = re.compile(rb"[\0-\x08\x0a-\x1f\x7f]")
# The listener writes them itself.
_OWN = frozenset((b"connection", b"content-length", b"date", b"keep-alive", b"transfer-encoding"))


class AsgiLimits(msgspec.Struct, frozen=True):
    """`answer_s`: until an answer begins; `stream_s`: until one that goes on has to end."""

    max_body_bytes: int = 64 * 1024
    max_requests: int = 16
    answer_s: float = 30.0
    stream_s: float = 3600.0


class AsgiMount:
    """Everything at `prefix` and below is the application's, but for the gateway's own endpoints.

    `load` makes the application; it is called in a thread, once, at the first request. Where it
    raises, that request is answered with an error and the next one tries again.
    """

    def __init__(
        self,
        prefix: str,
        load: Callable[[], AsgiApp],
        limits: AsgiLimits = AsgiLimits(),  # noqa: B008 - frozen
    ) -> None:
        self._prefix = prefix
        self._below = prefix + "/"
        self._load = load
        self._limits = limits
        self._app: AsgiApp | None = None
        self._loading = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> bool:
        """Whether anything is being answered."""
        return bool(self._tasks)

    def serves(self, path: str) -> bool:
        """Whether a path is the application's: an upstream may have the prefix for its name."""
        below = path == self._prefix or path.startswith(self._below)
        return below and not path.endswith("/mcp")

    def accept(self, request: HttpRequest) -> Receiver | None:
        """See `Application.accept`; whose request it is has been looked at."""
        if request.length_bytes > self._limits.max_body_bytes:
            request.refuse(413, "The body is too large")
            return None
        if len(self._tasks) >= self._limits.max_requests:
            request.refuse(503, "Too many requests at a time", b"retry-after: 1\r\n")
            return None

        def receive(body: bytes | None, size_bytes: int) -> None:
            if body is None or size_bytes > self._limits.max_body_bytes:
                request.refuse(413, "The body is too large")
                return
            task = asyncio.get_running_loop().create_task(self._answer(request, body))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return receive

    async def close(self) -> None:
        """End what is being answered."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _answer(self, request: HttpRequest, body: bytes) -> None:
        exchange = _Exchange(request, body)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._limits.answer_s) as deadline:
                exchange.begun = lambda: deadline.reschedule(loop.time() + self._limits.stream_s)
                app = self._app or await self._loaded()
                await app(_scope(request), exchange.receive, exchange.send)
            exchange.finish()
        except ClientGone:
            pass
        except TimeoutError:
            exchange.fail(504, "The answer took too long")
        except asyncio.CancelledError:
            exchange.fail(503, "The gateway is stopping")
            raise
        except Exception as error:  # noqa: BLE001 - a page that fails must not hang its reader
            exchange.fail(500, "The gateway failed to answer")
            loop.call_exception_handler(
                {"message": "a page could not be answered", "exception": error}
            )

    async def _loaded(self) -> AsgiApp:
        async with self._loading:
            if self._app is None:
                # In a thread: to import what it is made of takes longer than a call may wait.
                self._app = await asyncio.to_thread(self._load)
            return self._app


class ClientGone(OSError):  # noqa: N818 - an end, not an error of ours
    """The client closed the connection before the end of its answer."""


class _Exchange:
    """One request and its answer, as the application has them."""

    def __init__(self, request: HttpRequest, body: bytes) -> None:
        self._request = request
        self._body: bytes | None = body
        self._status = 0
        self._lines = b""
        self._streaming = False
        self._over = asyncio.Event()
        self._gone = False
        self._writable = asyncio.Event()
        self.begun: Callable[[], None] = lambda: None
        """Called when the answer has begun and goes on."""
        request.gone = self._lost
        request.drained = self._writable.set

    async def receive(self) -> Message:
        """The body, then the news that the exchange is over."""
        body, self._body = self._body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take a part of the answer; returns when the client takes more."""
        if self._gone:
            raise ClientGone
        if message["type"] == "http.response.start" and not self._status:
            self._lines = _lines(message.get("headers", ()))
            self._status = HTTPStatus(message["status"]).value
        elif message["type"] == "http.response.body" and self._status and not self._over.is_set():
            await self._part(bytes(message.get("body", b"")), message.get("more_body", False))
        else:
            raise RuntimeError(f"not a message for now: {message['type']}")

    def finish(self) -> None:
        """The application has returned: what it did not finish is an error of ours."""
        if not self._over.is_set():
            raise RuntimeError("the application returned before the end of its answer")

    def fail(self, status: int, message: str) -> None:
        """There will be no more of an answer."""
        if self._streaming:
            self._request.abort()
        else:
            self._request.refuse(status, message)
        self._over.set()

    async def _part(self, data: bytes, more: bool) -> None:
        request = self._request
        if not self._streaming and (not more or request.method == "HEAD"):
            request.respond(self._status, data, self._lines, kind=b"")
            self._over.set()
        elif not self._streaming:
            self._streaming = True
            request.begin(self._lines, data, self._status)
            self.begun()
        elif not more:
            request.end(data)
            self._over.set()
        elif data:
            request.write(data)
        while more and not request.writable and not self._gone:
            self._writable.clear()
            await self._writable.wait()
        if self._gone:
            raise ClientGone

    def _lost(self) -> None:
        """The client has closed the connection."""
        self._gone = True
        self._over.set()
        self._writable.set()


def _scope(request: HttpRequest) -> Message:
    """The request, without Authorization (a token for calls opens no page) and without headers
    that came more than once."""
    headers = request.headers.items()
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1" if request.http_1_1 else "1.0",
        "method": request.method,
        "scheme": "http",
        "path": unquote(request.path),
        "raw_path": request.path.encode("ascii"),
        "query_string": request.query,
        "root_path": "",
        "headers": [(name, value) for name, value in headers if value != REPEATED],
        "client": (request.peer, 0),
        "server": None,
    }


def _lines(headers: Any) -> bytes:
    lines = []
    for name, value in headers:
        if not _NAME.fullmatch(name) or _BAD_VALUE.search(value):
            raise ValueError(f"the header {name!r} cannot be sent")
        if name.lower() not in _OWN:
            lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join(lines)
