"""HTTP requests and responses as ASGI messages: headers, bodies, event streams."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from gateway.transports.http_replies import MessageQueue
from gateway.transports.http_resumption import ResumableStream
from gateway.wire import frames, sse

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

KEEP_ALIVE_S = 15.0
"""How long a response may be silent before a comment shows that it lives."""
JSON = b"application/json"
EVENTS = b"text/event-stream"
REPEATED = b"\0"
"""Stands for the value of a header that came more than once."""
_COMMENT = b":\n\n"
_RETRY = b"retry: 1000\n"
"""After how many milliseconds a client is to come back to a stream that broke off."""


class Refused(Exception):  # noqa: N818 - an answer, not an error of ours
    """The request is answered with an error status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def headers_of(raw: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Headers by lower-case name; one that stands twice and steers decisions is refused."""
    headers: dict[bytes, bytes] = {}
    for name, value in raw:
        key = name.lower()
        if key in headers and key == b"accept":
            headers[key] += b", " + value
        elif key in headers:
            headers[key] = REPEATED
        else:
            headers[key] = value.strip(b" \t")
    return headers


def accepts(accept: bytes, media_type: bytes) -> bool:
    """Whether an Accept header names a media type."""
    wanted = (media_type, media_type.split(b"/")[0] + b"/*", b"*/*")
    return any(part.split(b";")[0].strip().lower() in wanted for part in accept.split(b","))


def host_name(host: str) -> str:
    """A Host header without its port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


async def read_body(receive: Receive, limit_bytes: int) -> tuple[bytes | None, int]:
    """The body, or None and its size so far where that is over the limit."""
    chunks: list[bytes] = []
    size_bytes = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "The request ended early")
        chunk = message.get("body", b"")
        size_bytes += len(chunk)
        if size_bytes > limit_bytes:
            return None, size_bytes
        chunks.append(chunk)
        if not message.get("more_body", False):
            return (chunks[0] if len(chunks) == 1 else b"".join(chunks)), size_bytes


async def wait_for_disconnect(receive: Receive, gone: Callable[[], None]) -> None:
    """Call `gone` when the client closes the connection."""
    with contextlib.suppress(asyncio.CancelledError):
        while (await receive())["type"] != "http.disconnect":
            pass
        gone()


async def send_events(
    queue: MessageQueue,
    send: Send,
    extra: Iterable[tuple[bytes, bytes]],
    stream: ResumableStream | None = None,
    *,
    primes: bool = False,
    replayed: Iterable[tuple[str, bytes]] = (),
) -> None:
    """Send what is `replayed` and then what comes from `queue`, until its end, as events.

    With a `stream` they have ids; `primes` begins with an event that has nothing but its id.
    """
    start = [
        (b"content-type", EVENTS),
        (b"cache-control", b"no-store"),
        (b"x-accel-buffering", b"no"),
        *extra,
    ]
    await send({"type": "http.response.start", "status": 200, "headers": start})
    # The first bytes make the headers leave: without them a client would wait for an event.
    body = _COMMENT
    if stream is not None and primes:
        body = _RETRY + sse.event(b"", stream.prime())
    await send({"type": "http.response.body", "body": body, "more_body": True})
    for event_id, frame in replayed:
        body = sse.event(frame, event_id)
        await send({"type": "http.response.body", "body": body, "more_body": True})
    while True:
        taken = queue.take()
        if taken is not None:
            body = sse.event(taken, None if stream is None else stream.sent(taken))
            await send({"type": "http.response.body", "body": body, "more_body": True})
        elif queue.ended:
            break
        elif not await queue.wait(KEEP_ALIVE_S):
            await send({"type": "http.response.body", "body": _COMMENT, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def respond(
    send: Send, status: int, body: bytes, extra: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """Answer with a JSON body, or with none."""
    headers = [(b"content-length", str(len(body)).encode()), *extra]
    if body:
        headers.append((b"content-type", JSON))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def respond_error(send: Send, status: int, message: str) -> None:
    """Answer with an error status, and say why."""
    await respond(send, status, frames.error(None, frames.INVALID_REQUEST, message))
