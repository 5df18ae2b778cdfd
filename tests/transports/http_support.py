"""Real HTTP servers for the tests: uvicorn with a raw ASGI application, and a bare socket."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import uvicorn

Application = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


@contextlib.contextmanager
def serving(app: Application, **options: Any) -> Iterator[int]:
    """Run `app` in a thread; gives the port."""
    options = {"lifespan": "off", "timeout_graceful_shutdown": 1, **options}
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, http="httptools", ws="none", log_level="error", **options
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.005)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


@contextlib.contextmanager
def listening(*connections: Callable[[socket.socket], None]) -> Iterator[int]:
    """Give each connection that comes to the next function; gives the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def accept() -> None:
            for handle in connections:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connection.settimeout(10)
                with connection, contextlib.suppress(OSError):
                    handle(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            thread.join()


def read_request(connection: socket.socket) -> bytes:
    """One request with a body of known length; b"" at the end of the stream."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        if not chunk:
            return b""
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def answers(*responses: bytes) -> Callable[[socket.socket], None]:
    """A connection that answers each request with the next of `responses`, then closes."""

    def handle(connection: socket.socket) -> None:
        for response in responses:
            if not read_request(connection):
                return
            connection.sendall(response)

    return handle


async def read_body(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return body


async def respond(
    send: Any, status: int, body: bytes, content_type: str = "application/json", **headers: str
) -> None:
    lines = [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body))]
    lines += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})


async def stream(send: Any, *chunks: bytes, content_type: str = "text/event-stream") -> None:
    headers = [(b"content-type", content_type.encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for chunk in chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b""})
