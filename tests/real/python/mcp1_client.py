"""A client on the 1.x line of the Python SDK: connects, lists, calls, and prints what it got.

The one argument is JSON: `server` (a URL, or a command with its arguments), `env`, and `calls`
(pairs of a tool and its arguments). Runs in its own virtual environment.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client


@asynccontextmanager
async def connected(server: str | list[str], env: dict[str, str]) -> AsyncIterator[ClientSession]:
    """A session that has been initialized."""
    if isinstance(server, str):
        async with (
            streamable_http_client(server) as (read, write, _),
            open_session(read, write) as s,
        ):
            yield s
    else:
        parameters = StdioServerParameters(command=server[0], args=server[1:], env=env)
        async with stdio_client(parameters) as (read, write), open_session(read, write) as session:
            yield session


@asynccontextmanager
async def open_session(read, write) -> AsyncIterator[ClientSession]:
    """The handshake."""
    async with ClientSession(read, write) as session:
        await session.initialize()
        yield session


async def main() -> None:
    """Do what the argument says."""
    told = json.loads(sys.argv[1])
    async with connected(told["server"], told["env"]) as session:
        listed = await session.list_tools()
        results = [await session.call_tool(tool, arguments) for tool, arguments in told["calls"]]
    got = {
        "tools": [tool.name for tool in listed.tools],
        "results": [result.model_dump(mode="json") for result in results],
    }
    print(json.dumps(got))


asyncio.run(main())
