"""A raw client of the stateless revision: each request by itself, over either transport."""

import json
from typing import Any

from tests.e2e.http import HttpClient
from tests.e2e.inbox import Inbox, Message, request

REVISION = "2026-07-28"
_NAMED_BY = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_META = "io.modelcontextprotocol/"


def enveloped(params: Message, **capabilities: Any) -> Message:
    """The params under an envelope."""
    envelope = {
        f"{_META}protocolVersion": REVISION,
        f"{_META}clientCapabilities": capabilities,
        f"{_META}clientInfo": {"name": "raw", "version": "1"},
    }
    return {**params, "_meta": envelope}


class StatelessClient:
    """Asks through a client of the transport, which has had no handshake."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._asked = 0

    def ask(self, method: str, params: Message | None = None, **capabilities: Any) -> Message:
        """One request of a client with these capabilities, and the answer to it."""
        whole = enveloped(params or {}, **capabilities)
        if not isinstance(self._inbox, HttpClient):
            return self._inbox.ask(method, whole)
        self._asked += 1
        named = _NAMED_BY.get(method)
        headers = {"Mcp_Protocol_Version": REVISION, "Mcp_Method": method}
        if named is not None:
            headers["Mcp_Name"] = whole[named]
        response = self._inbox.post(request(self._asked, method, whole), **headers)
        text = response.text
        if response.headers["content-type"] == "text/event-stream":
            text = [line[6:] for line in text.splitlines() if line.startswith("data: {")][-1]
        answer: Message = json.loads(text)
        return answer
