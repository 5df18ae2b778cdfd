"""What each cell of the combinations does: a real client does everything a client can do once."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import mcp_types as types
from mcp import Client, StdioServerParameters
from mcp.client import ClientRequestContext

from tests.real.installed import ROOT, python_client

ToolCall = tuple[str, Mapping[str, Any]]
Asked = ClientRequestContext
Server = str | list[str]
"""A URL, or a command with its arguments."""


@dataclass(frozen=True)
class Plan:
    """What to call on one server, and what comes of it.

    `form` is the client's answer to an elicitation, `sampled` that to sampling; `expected` is a
    part of the text that each step ends with.
    """

    call: ToolCall
    progress: ToolCall
    log: ToolCall
    asked: ToolCall
    sampled_by: ToolCall
    undeclared: str
    resource: str
    prompt: str
    form: Mapping[str, Any]
    sampled: str
    expected: Mapping[str, str]

    @property
    def declared(self) -> tuple[str, ...]:
        """The tools that the agent declares."""
        return tuple(
            name for name, _ in (self.call, self.progress, self.log, self.asked, self.sampled_by)
        )


@dataclass
class Seen:
    """What a client saw. `refused` is whether it was an error, and its text."""

    listed: Sequence[str]
    call: str
    asked: str
    sampled_by: str
    log: str
    progress_text: str
    refused: Sequence[object]
    resource: str
    prompt: str
    progress: Sequence[float]
    logged: Sequence[object]


async def visit(server: Server, name: str, mode: str, plan: Plan, env: Mapping[str, str]) -> Seen:
    """A visit by the 2.x line of the SDK under a name; `mode` is the era it speaks."""
    reports: list[float] = []
    logged: list[object] = []

    async def log(params: types.LoggingMessageNotificationParams) -> None:
        logged.append(params.data)

    async def elicit(context: Asked, params: types.ElicitRequestParams) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content=dict(plan.form))

    async def sample(
        context: Asked, params: types.CreateMessageRequestParams
    ) -> types.CreateMessageResult:
        content = types.TextContent(text=plan.sampled)
        return types.CreateMessageResult(role="assistant", content=content, model="stub")

    async def progressed(progress: float, total: float | None, message: str | None) -> None:
        reports.append(progress)

    async with Client(
        parameters(server, env),
        mode=cast("Any", mode),
        client_info=types.Implementation(name=name, version="1"),
        read_timeout_seconds=20,
        logging_callback=log,
        log_level="debug",
        elicitation_callback=elicit,
        sampling_callback=sample,
    ) as client:
        if mode == "legacy" and client.server_capabilities.logging is not None:
            await client.set_logging_level("debug")
        listed = [tool.name for tool in (await client.list_tools()).tools]
        texts = {
            step: text(await client.call_tool(tool, dict(arguments)))
            for step, (tool, arguments) in (
                ("call", plan.call),
                ("asked", plan.asked),
                ("sampled_by", plan.sampled_by),
                ("log", plan.log),
            )
        }
        tool, arguments = plan.progress
        reported = await client.call_tool(tool, dict(arguments), progress_callback=progressed)
        refused = await client.call_tool(plan.undeclared, {})
        read = await client.read_resource(plan.resource)
        prompt = await client.get_prompt(plan.prompt)
    [contents] = read.contents
    content = prompt.messages[0].content
    assert isinstance(contents, types.TextResourceContents)
    assert isinstance(content, types.TextContent)
    return Seen(
        listed=listed,
        **texts,
        progress_text=text(reported),
        refused=(bool(refused.is_error), text(refused)),
        resource=contents.text,
        prompt=content.text,
        progress=reports,
        logged=logged,
    )


def visits_mcp1(
    visits: Sequence[tuple[Server, Plan]], env: Mapping[str, str], directory: Path
) -> list[Seen | str]:
    """Visits by the 1.x line of the SDK, in one process of its own; a text says what went wrong."""
    each = [{"server": server, "plan": asdict(plan)} for server, plan in visits]
    done = subprocess.run(
        [python_client(), ROOT / "python/mcp1_visit.py", json.dumps({"env": env, "visits": each})],
        cwd=directory,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    return [one["error"] if "error" in one else Seen(**one) for one in json.loads(done.stdout)]


def parameters(server: Server, env: Mapping[str, str]) -> str | StdioServerParameters:
    """The server as the 2.x line of the SDK takes it."""
    if isinstance(server, str):
        return server
    return StdioServerParameters(command=server[0], args=server[1:], env=dict(env))


def text(result: types.CallToolResult) -> str:
    """The text of a tool result."""
    return "".join(part.text for part in result.content if isinstance(part, types.TextContent))
