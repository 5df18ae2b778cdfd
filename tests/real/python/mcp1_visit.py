"""A client on the 1.x line of the Python SDK that does everything a client can, at each server.

The one argument is JSON: `env`, and `visits`, each with a `server` (a URL, or a command with its
arguments) and a `plan` (what to call; see tests/real/eras/visit.py). Prints what came of each, or
the `error`. Runs in its own virtual environment.
"""

import asyncio
import json
import sys
import traceback
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

from mcp import ClientSession, StdioServerParameters, types
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

ME = types.Implementation(name="mcp1", version="1")
PATIENCE = timedelta(seconds=20)


class Visit:
    """One session: what the client answers, and what it gathers."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.logged: list[object] = []
        self.progress: list[float] = []

    async def log(self, params: types.LoggingMessageNotificationParams) -> None:
        """Keep a log message."""
        self.logged.append(params.data)

    async def progressed(self, done: float, _: float | None, __: str | None) -> None:
        """Keep progress."""
        self.progress.append(done)

    async def elicit(self, _: object, __: types.ElicitRequestParams) -> types.ElicitResult:
        """Answer any form."""
        return types.ElicitResult(action="accept", content=self.plan["form"])

    async def sample(self, _: object, __: object) -> types.CreateMessageResult:
        """Answer any question."""
        content = types.TextContent(type="text", text=self.plan["sampled"])
        return types.CreateMessageResult(role="assistant", content=content, model="stub")

    @asynccontextmanager
    async def connected(
        self, server: str | list[str], env: dict[str, str]
    ) -> AsyncIterator[ClientSession]:
        """A session that has been initialized."""
        async with AsyncExitStack() as stack:
            if isinstance(server, str):
                read, write, _ = await stack.enter_async_context(streamable_http_client(server))
            else:
                parameters = StdioServerParameters(command=server[0], args=server[1:], env=env)
                read, write = await stack.enter_async_context(stdio_client(parameters))
            session = await stack.enter_async_context(
                ClientSession(
                    read,
                    write,
                    PATIENCE,
                    sampling_callback=self.sample,
                    elicitation_callback=self.elicit,
                    logging_callback=self.log,
                    client_info=ME,
                )
            )
            initialized = await session.initialize()
            if initialized.capabilities.logging is not None:
                await session.set_logging_level("debug")
            yield session

    async def run(self, server: str | list[str], env: dict[str, str]) -> dict[str, object]:
        """All of it."""
        plan = self.plan
        async with self.connected(server, env) as session:
            got: dict[str, object] = {
                "listed": [tool.name for tool in (await session.list_tools()).tools]
            }
            for step in ("call", "asked", "sampled_by", "log"):
                got[step] = text(await session.call_tool(*plan[step]))
            name, arguments = plan["progress"]
            reported = await session.call_tool(name, arguments, progress_callback=self.progressed)
            refused = await session.call_tool(plan["undeclared"], {})
            read = await session.read_resource(plan["resource"])
            prompt = await session.get_prompt(plan["prompt"])
        return {
            **got,
            "progress_text": text(reported),
            "refused": [refused.isError, text(refused)],
            "resource": read.contents[0].text,
            "prompt": prompt.messages[0].content.text,
            "progress": self.progress,
            "logged": self.logged,
        }


def text(result: types.CallToolResult) -> str:
    """The text of a tool result."""
    return "".join(part.text for part in result.content if part.type == "text")


async def main() -> None:
    """Visit each server in turn."""
    told = json.loads(sys.argv[1])
    came = []
    for each in told["visits"]:
        try:
            came.append(await Visit(each["plan"]).run(each["server"], told["env"]))
        except Exception:  # noqa: BLE001 - reported to the test, whatever it is
            came.append({"error": traceback.format_exc()})
    print(json.dumps(came))


asyncio.run(main())
