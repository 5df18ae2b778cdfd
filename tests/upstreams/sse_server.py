"""The SDK's server over HTTP+SSE; the port it listens on is written to CANARY_PORT."""

import asyncio

import uvicorn
from mcp.server.mcpserver import Context, MCPServer

from tests.upstreams.canary_http import announce

SERVER = MCPServer("legacy")


@SERVER.tool()
def echo(text: str) -> str:
    return text


@SERVER.tool()
def hidden() -> str:
    return "hidden"


@SERVER.tool()
async def progress(ctx: Context) -> str:
    await ctx.report_progress(1, 2, "half")
    return "done"


@SERVER.tool()
async def hang() -> str:
    await asyncio.sleep(60)
    return "late"


class _Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        announce(self.servers[0].sockets[0].getsockname()[1])


if __name__ == "__main__":
    _Server(uvicorn.Config(SERVER.sse_app(), port=0, log_level="critical", ws="none")).run()
