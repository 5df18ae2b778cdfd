"""The demo's MCP client: the official `mcp` package, connected through `gateway connect`."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from gateway.catalog.names import normalise
from gateway.cli.demo_scenario import AGENT, MIRRORED, Step
from gateway.cli.demo_world import World
from gateway.errors import UserError

if TYPE_CHECKING:
    from mcp import Client
    from mcp.types import CallToolResult

_CALL_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Answer:
    """What the client got for one step: the parts of the result as text, errors included."""

    step: Step
    text: str
    is_error: bool


def accept(world: World) -> None:
    """Accept the world's configuration, as the person does who runs the demo; raises UserError."""
    surroundings = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
    done = subprocess.run(  # noqa: S603 - this program
        [sys.executable, "-m", "gateway", "trust", "--yes", "--config", str(world.config)],
        env={**surroundings, **_environment(world)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise UserError(f"the demo's configuration was not accepted: {done.stderr.strip()}")


async def play(
    world: World, steps: Sequence[Step], errors: TextIO, tell: Callable[[str], None]
) -> list[Answer]:
    """Connect as the agent, take every step, disconnect. `errors` gets the gateways' stderr."""
    tell(f"Connecting as {AGENT}: gateway connect --all, and gateway connect {MIRRORED}")
    async with _connected(world, ["--all"], errors) as client:
        tell("Waiting for the servers' tools")
        listed = await client.list_tools()
        tell(f"{AGENT} sees {len(listed.tools)} tools; calling some that it has, some that not")
        answers = {step: await _take(step, client) for step in steps if not step.mirrored}
    mirrored = [step for step in steps if step.mirrored]
    if mirrored:
        answers |= await _play_mirrored(world, mirrored, errors)
    return [answers[step] for step in steps]


async def _play_mirrored(world: World, steps: Sequence[Step], errors: TextIO) -> dict[Step, Answer]:
    from mcp import MCPError

    reason = ""
    try:
        async with _connected(world, [MIRRORED], errors) as client:
            return {step: await _take(step, client) for step in steps}
    except* MCPError as refused:  # the server did not start, so there is nothing to connect to
        reason = _first(refused)
    return {step: Answer(step, reason, is_error=True) for step in steps}


def _first(group: BaseExceptionGroup[BaseException]) -> str:
    """The message of the first error in nested groups."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)


@contextlib.asynccontextmanager
async def _connected(
    world: World, arguments: Sequence[str], errors: TextIO
) -> "AsyncIterator[Client]":
    # Imported here: the package costs more than any other command takes.
    from mcp import Client, StdioServerParameters
    from mcp.client.stdio import stdio_client

    command = ["-m", "gateway", "connect", *arguments, "--agent", AGENT]
    server = StdioServerParameters(
        command=sys.executable,
        args=[*command, "--config", str(world.config)],
        env=_environment(world),
    )
    transport = stdio_client(server, errlog=errors)
    # Without the probe for the protocol of 2026, whose refusal would be one more entry in the log.
    async with Client(transport, mode="legacy", read_timeout_seconds=_CALL_TIMEOUT_S) as client:
        yield client


def _environment(world: World) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("TMPDIR", "PYTHONPATH") if name in os.environ}
    # What the gateway keeps of a configuration goes when the demo ends.
    directory = world.config.parent
    own = {"XDG_CACHE_HOME": str(directory / "cache"), "XDG_STATE_HOME": str(directory / "state")}
    return {**kept, **own, **world.environment}


async def _take(step: Step, client: "Client") -> Answer:
    from mcp import MCPError

    name = step.tool if step.mirrored else f"{normalise(step.upstream)}__{step.tool}"
    try:
        result = await client.call_tool(name, dict(step.arguments))
    except MCPError as error:
        return Answer(step, error.message, is_error=True)
    return Answer(step, _text(result), is_error=result.is_error)


def _text(result: "CallToolResult") -> str:
    parts = []
    for part in result.content:
        if part.type == "text":
            parts.append(part.text)
        elif part.type == "image":
            parts.append(f"[{part.mime_type}, {len(part.data) * 3 // 4} bytes]")
        else:
            parts.append(f"[{part.type}]")
    return re.sub(r"\s+", " ", " ".join(parts)).strip()
