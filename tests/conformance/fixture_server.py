"""The reference server of the conformance runs, on the official SDK: every feature, both eras.

    python -m tests.conformance.fixture_server --stdio
    python -m tests.conformance.fixture_server --http --port 0

Over HTTP it announces its URL as the first line of stdout.
"""

import argparse
import asyncio
import socket
import sys
import warnings
from collections.abc import Sequence

import mcp_types as types
import uvicorn
from mcp.server.caching import CacheHint
from mcp.server.lowlevel.server import NotificationOptions, Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError

from tests.conformance import fixture_content as content
from tests.conformance.fixture_content import Context
from tests.conformance.fixture_rounds import prompt_rounds
from tests.conformance.fixture_tools import Tools

NAME = "conformance-fixture"
_RESOURCE_NOT_FOUND_BEFORE_2026 = -32002
_HINT = CacheHint(ttl_ms=60_000, scope="public")
_RETRY_MS = 300


def make_server() -> Server[dict[str, object]]:
    """A server with nothing to set up; for HTTP, one serves all sessions."""
    bus = InMemorySubscriptionBus()
    tools = Tools(bus)
    handlers = _Handlers(tools)
    server = Server(
        NAME,
        version="1.0.0",
        instructions="Made for the conformance suite.",
        cache_hints={
            "tools/list": _HINT,
            "prompts/list": _HINT,
            "resources/list": _HINT,
            "resources/templates/list": _HINT,
            "resources/read": _HINT,
            "server/discover": _HINT,
        },
        get_tool_input_schema=tools.input_schema,
        on_list_tools=handlers.list_tools,
        on_call_tool=tools.call,
        on_list_resources=handlers.list_resources,
        on_list_resource_templates=handlers.list_templates,
        on_read_resource=handlers.read_resource,
        on_subscribe_resource=handlers.subscribe,
        on_unsubscribe_resource=handlers.subscribe,
        on_subscriptions_listen=ListenHandler(bus),
        on_list_prompts=handlers.list_prompts,
        on_get_prompt=handlers.get_prompt,
        on_completion=handlers.complete,
        on_set_logging_level=handlers.set_level,
    )
    server.middleware.append(
        RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience=NAME)
    )
    return server


class _Handlers:
    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def list_tools(self, _: Context, __: object) -> types.ListToolsResult:
        return types.ListToolsResult(tools=self._tools.listing())

    async def list_resources(self, _: Context, __: object) -> types.ListResourcesResult:
        return types.ListResourcesResult(resources=content.RESOURCES)

    async def list_templates(self, _: Context, __: object) -> types.ListResourceTemplatesResult:
        return types.ListResourceTemplatesResult(resource_templates=content.TEMPLATES)

    async def read_resource(
        self, context: Context, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        found = content.resource(params.uri)
        if found is None:
            modern = context.protocol_version >= "2026-07-28"
            code = types.INVALID_PARAMS if modern else _RESOURCE_NOT_FOUND_BEFORE_2026
            raise MCPError(code, "Resource not found", data={"uri": params.uri})
        return found

    async def subscribe(self, _: Context, __: object) -> types.EmptyResult:
        """Subscribing and unsubscribing: the one resource that changes is announced to everyone."""
        return types.EmptyResult()

    async def list_prompts(self, _: Context, __: object) -> types.ListPromptsResult:
        changed = [content.CHANGING_PROMPT] if self._tools.changed_prompts else []
        return types.ListPromptsResult(prompts=[*content.PROMPTS, *changed])

    async def get_prompt(
        self, _: Context, params: types.GetPromptRequestParams
    ) -> types.GetPromptResult | types.InputRequiredResult:
        found = prompt_rounds(params) or content.prompt(params.name, params.arguments or {})
        if found is None:
            raise MCPError(types.INVALID_PARAMS, f"Unknown prompt: {params.name}")
        return found

    async def complete(
        self, _: Context, params: types.CompleteRequestParams
    ) -> types.CompleteResult:
        return types.CompleteResult(completion=content.completion(params.argument.value))

    async def set_level(self, _: Context, __: object) -> types.EmptyResult:
        return types.EmptyResult()


class _Events(EventStore):
    """Every event of every stream, for clients that come back; the process is short-lived."""

    def __init__(self) -> None:
        self._events: list[tuple[str, types.JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: str, message: types.JSONRPCMessage | None) -> str:
        self._events.append((stream_id, message))
        return str(len(self._events))

    async def replay_events_after(
        self, last_event_id: str, send_callback: EventCallback
    ) -> str | None:
        last = int(last_event_id) if last_event_id.isdecimal() else 0
        if not 0 < last <= len(self._events):
            return None
        stream = self._events[last - 1][0]
        for number, (name, message) in enumerate(self._events[last:], last + 1):
            if name == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream


async def serve_stdio() -> None:
    """Serve one client on stdin and stdout until stdin is closed."""
    server = make_server()
    changes = NotificationOptions(prompts_changed=True, resources_changed=True, tools_changed=True)
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options(changes))


def serve_http(port: int) -> None:
    """Serve over streamable HTTP on loopback until a signal; port 0 takes a free one."""
    app = make_server().streamable_http_app(event_store=_Events(), retry_interval=_RETRY_MS)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()  # from here on a connection waits until it is served
        print(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
        # httptools leaves white space around header values, which the suite sends.
        config = uvicorn.Config(app, http="h11", log_level="warning", timeout_graceful_shutdown=1)
        uvicorn.Server(config).run(sockets=[listener])


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve as the command line says; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.fixture_server")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--stdio", action="store_true")
    how.add_argument("--http", action="store_true")
    parser.add_argument("--port", type=int, default=0)
    parsed = parser.parse_args(arguments)
    # Logging and its kin are deprecated in the newest revision and required by the older ones.
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    if parsed.http:
        serve_http(parsed.port)
    else:
        asyncio.run(serve_stdio())
    return 0


if __name__ == "__main__":
    sys.exit(main())
