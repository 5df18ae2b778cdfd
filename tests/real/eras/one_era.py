"""A server that speaks one era only, made of one that speaks both: the other's opening is refused.

    python -m tests.real.eras.one_era handshake|stateless --stdio COMMAND [ARGUMENT ...]
    python -m tests.real.eras.one_era handshake|stateless --http

Over stdio it stands before a command; over HTTP it is the conformance fixture, and announces its
URL as the first line of stdout.
"""

import json
import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import uvicorn
from mcp.shared.exceptions import MCPDeprecationWarning
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.conformance.fixture_server import make_server

REFUSED = {
    "handshake": ("server/discover", {"code": -32601, "message": "Method not found"}),
    "stateless": (
        "initialize",
        {
            "code": -32022,
            "message": "Unsupported protocol version",
            "data": {"supported": ["2026-07-28"]},
        },
    ),
}
"""The request that opens the other era, and the error that answers it, by the era spoken."""


def refusal(era: str, frame: bytes) -> bytes | None:
    """The answer to a message of the other era, None for any other message."""
    method, error = REFUSED[era]
    message: Any = json.loads(frame) if frame.strip() else None
    if not isinstance(message, dict) or message.get("method") != method:
        return None
    return json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": error}).encode()


def before_command(era: str, command: Sequence[str]) -> int:
    """Stand before a stdio server; its status."""
    with subprocess.Popen(command, stdin=subprocess.PIPE) as server:
        assert server.stdin is not None
        for line in sys.stdin.buffer:
            answer = refusal(era, line)
            if answer is not None:
                os.write(1, answer + b"\n")  # short enough to be one write beside the server's own
            else:
                server.stdin.write(line)
                server.stdin.flush()
        server.stdin.close()
        return server.wait()


class OneEra:
    """ASGI middleware before a server over HTTP."""

    def __init__(self, app: ASGIApp, era: str) -> None:
        self._app = app
        self._era = era

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or let it pass with its body read."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        answer = refusal(self._era, body)
        if answer is None:
            await self._app(scope, _again(body, receive), send)
            return
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 400, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


def _again(body: bytes, receive: Receive) -> Receive:
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


def serve_http(era: str) -> None:
    """Serve on a free port of loopback until a signal."""
    app = OneEra(make_server().streamable_http_app(), era)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # from here on a connection waits until it is served
        print(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
        uvicorn.Server(config).run(sockets=[listener])


def main() -> int:
    """Serve as the command line says; the exit status."""
    era, transport, *command = sys.argv[1:]
    # Logging and its kin are deprecated in the newest revision and required by the older ones.
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    if transport == "--stdio":
        return before_command(era, command)
    serve_http(era)
    return 0


if __name__ == "__main__":
    sys.exit(main())
