"""A server on the 1.x line of the Python SDK: one tool of each kind, a resource and a prompt.

With `--http` it serves on a free port, and announces its URL as the first line of stdout. Runs in
its own virtual environment.
"""

import socket
import sys

import uvicorn
from mcp import types
from mcp.server.fastmcp import Context, FastMCP
from pydantic import BaseModel

server = FastMCP("mcp1", log_level="WARNING")


class Form(BaseModel):
    """What the elicitation asks for."""

    name: str


@server.tool()
def say(text: str) -> str:
    """Say it again."""
    return text


@server.tool()
def hidden() -> str:
    """Not for everybody."""
    return "seen"


@server.tool()
async def progress(ctx: Context) -> str:
    """Report progress twice."""
    await ctx.report_progress(1, 2)
    await ctx.report_progress(2, 2)
    return "progressed"


@server.tool()
async def log(ctx: Context) -> str:
    """Log a message."""
    await ctx.info("a message")
    return "logged"


@server.tool()
async def ask(ctx: Context) -> str:
    """Ask for a name."""
    answer = await ctx.elicit("Your name?", Form)
    return f"{answer.action}: {answer.data.name}" if answer.action == "accept" else answer.action


@server.tool()
async def sample(ctx: Context) -> str:
    """Ask the client's model."""
    question = types.TextContent(type="text", text="What metal?")
    answer = await ctx.session.create_message(
        [types.SamplingMessage(role="user", content=question)],
        max_tokens=5,
        related_request_id=ctx.request_id,
    )
    return answer.content.text


@server.resource("mcp1://note")
def note() -> str:
    """A text."""
    return "A note."


@server.prompt()
def greet() -> str:
    """A prompt."""
    return "Greet them."


def main() -> None:
    """Serve as the command line says."""
    if "--http" not in sys.argv:
        server.run()
        return
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # from here on a connection waits until it is served
        print(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
        config = uvicorn.Config(
            server.streamable_http_app(), log_level="warning", timeout_graceful_shutdown=1
        )
        uvicorn.Server(config).run(sockets=[listener])


main()
