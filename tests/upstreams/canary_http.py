"""The canary over streamable HTTP: plain ASGI, so that a test decides on every byte of a response.

Environment: as for the stdio canary; the port it listens on is written to CANARY_PORT. Arguments of
its tool `raw`: `body` (base64; @ID@ becomes the id of the call), `type` (media type of the
response), `status`, and `cut` (end the response without its end).
"""

import base64
import json
import os
from pathlib import Path

import uvicorn

from tests.upstreams.canary import TOOLS, text_result, tool

SESSION = "upstream-session"


class HttpCanary:
    """The ASGI application."""

    def __init__(self):
        self.log = os.open(os.environ["CANARY_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        script = json.loads(Path(os.environ["CANARY_SCRIPT"]).read_text())
        self.name = script["name"]
        self.listing = script.get("listing")
        self.asked = {}

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        if scope["method"] != "POST":
            await respond(send, 405 if scope["method"] == "GET" else 200, b"")
            return
        os.write(self.log, body + b"\n")
        await self.take(json.loads(body), send)

    async def take(self, message, send):
        method = message.get("method")
        if method == "tools/call" and message["params"]["name"] == "raw":
            await self.raw(message, message["params"]["arguments"], send)
        elif "id" in message and method is not None:
            answer = {"jsonrpc": "2.0", "id": message["id"], "result": self.result(message)}
            await respond(send, 200, json.dumps(answer).encode())
        else:
            await respond(send, 202, b"")

    def result(self, message):
        method, params = message["method"], message.get("params", {})
        if method == "initialize":
            return {
                "protocolVersion": params["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": self.name, "version": "1"},
            }
        if method == "tools/list":
            return self.listing or {"tools": [tool(name) for name in TOOLS]}
        if method == "tools/call":
            arguments = params.get("arguments", {})
            return {**text_result(arguments.get("text", "")), "structuredContent": arguments}
        return {}

    async def raw(self, message, arguments, send):
        body = base64.b64decode(arguments["body"]).replace(
            b"@ID@", json.dumps(message["id"]).encode()
        )
        status, media_type = arguments.get("status", 200), arguments.get("type", "application/json")
        await respond(send, status, body, media_type, cut=arguments.get("cut", False))


async def respond(send, status, body, media_type="application/json", *, cut=False):
    headers = [(b"mcp-session-id", SESSION.encode())]
    if body:
        headers.append((b"content-type", media_type.encode()))
    if cut:
        headers.append((b"content-length", str(len(body) + 1000).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": cut})
    if cut:
        raise ConnectionError("cut by the test")


def announce(port):
    """Write the port, whole or not at all."""
    beside = Path(os.environ["CANARY_PORT"] + ".new")
    beside.write_text(str(port))
    beside.replace(os.environ["CANARY_PORT"])


class _Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        port = self.servers[0].sockets[0].getsockname()[1]
        announce(port)


if __name__ == "__main__":
    config = uvicorn.Config(HttpCanary(), port=0, lifespan="off", log_level="critical", ws="none")
    _Server(config).run()
