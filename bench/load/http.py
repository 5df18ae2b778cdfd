"""A session over streamable HTTP."""

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit

from bench.load.messages import (
    INITIALIZED,
    REVISION,
    BadAnswerError,
    from_events,
    initialize,
    request,
    shown,
)
from bench.load.session import Done
from bench.net.client import Headers, Pool


class HttpSession:
    """A session with the server at a URL. Is a Session."""

    def __init__(self, url: str, headers: Mapping[str, str], pool: Pool | None = None) -> None:
        self._pool = pool or Pool(url)
        self._own_pool = pool is None
        self._path = urlsplit(url).path or "/"
        self._extra = dict(headers)
        self._start = self._head()
        self._last_id = 0
        self._identifier = ""

    @classmethod
    async def open(
        cls,
        url: str,
        headers: Mapping[str, str],
        *,
        pool: Pool | None = None,
        timeout_s: float = 60.0,
    ) -> "HttpSession":
        """Shake hands, over connections of its own or those of a pool.

        Raises BadAnswerError, TimeoutError.
        """
        session = cls(url, headers, pool)
        async with asyncio.timeout(timeout_s):
            answer = await session._post(initialize(0))
            identifier = answer.headers.get(b"mcp-session-id")
            if identifier is not None:
                session._identifier = identifier.decode()
                session._extra["mcp-session-id"] = session._identifier
            session._extra["mcp-protocol-version"] = REVISION
            session._start = session._head()
            await session._post(INITIALIZED)
        return session

    def request(self, method: str, params: bytes, done: Done) -> None:
        """See Session."""
        self._last_id += 1
        self._send(request(self._last_id, method, params), _Answer(done))

    async def prepare(self, in_flight: int) -> None:
        """See Session."""
        await self._pool.prepare(in_flight)

    async def close(self) -> None:
        """See Session; the server is not told, as most clients do not tell it."""
        if self._own_pool:
            self._pool.close()

    def _head(self) -> bytes:
        lines = "".join(f"{name}: {value}\r\n" for name, value in self._extra.items())
        return (
            f"POST {self._path} HTTP/1.1\r\nhost: {self._pool.host}:{self._pool.port}\r\n"
            "content-type: application/json\r\naccept: application/json, text/event-stream\r\n"
            f"{lines}content-length: "
        ).encode()

    def _send(self, body: bytes, answer: "_Answer") -> None:
        self._pool.send(b"%b%d\r\n\r\n%b" % (self._start, len(body), body), answer)

    async def _post(self, body: bytes) -> "_Answer":
        finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(frame: bytes | BadAnswerError) -> None:
            if isinstance(frame, BadAnswerError):
                finished.set_exception(frame)
            else:
                finished.set_result(None)

        answer = _Answer(done)
        self._send(body, answer)
        await finished
        return answer


class _Answer:
    """One answer, gathered. Is a Sink."""

    def __init__(self, done: Done) -> None:
        self.status = 0
        self.headers: Headers = {}
        self._done = done
        self._chunks: list[bytes] = []

    def head(self, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers

    def body(self, chunk: bytes) -> None:
        self._chunks.append(chunk)

    def complete(self) -> None:
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        if self.status not in (200, 202):
            self._done(BadAnswerError(f"HTTP status {self.status}: {shown(body)}"))
        elif self.headers.get(b"content-type", b"").startswith(b"text/event-stream"):
            try:
                frame = from_events(body)
            except BadAnswerError as error:
                self._done(error)
            else:
                self._done(frame)
        else:
            self._done(body)

    def lost(self) -> None:
        self._done(BadAnswerError("the connection was closed"))
