"""The clients that people use, through the gateway: the official Inspector and the Python SDK."""

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.types import TextContent

from tests.real.installed import ROOT, client_script, node, python_client
from tests.real.processes import nothing_left
from tests.real.through import Project, declared, example_project
from tests.real.world import World

pytestmark = pytest.mark.real

LIBRARY = {"libraryName": "starlette", "query": "how to start"}


@pytest.fixture(autouse=True)
def _nothing_left(world: World) -> Iterator[None]:
    with nothing_left():
        yield


@pytest.fixture
def example(world: World, tmp_path: Path) -> Project:
    """The shipped example in front of the newest servers."""
    return example_project(world, tmp_path, "newest")


# --- the Inspector


class Inspector:
    """The Inspector's command line, towards one server: a command, or a URL."""

    def __init__(self, example: Project, *server: str, arguments: tuple[str, ...] = ()) -> None:
        self._example = example
        self._server = (*server, *arguments)

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run it once."""
        script = client_script("@modelcontextprotocol/inspector/clients/launcher/build/index.js")
        return subprocess.run(
            [str(node()), str(script), "--cli", *self._server, *options],
            cwd=self._example.directory,
            env=dict(self._example.environment),
            capture_output=True,
            text=True,
            check=False,
        )

    def tools(self) -> set[str]:
        """The names of the listed tools."""
        done = self.run("--method", "tools/list")
        assert done.returncode == 0, done.stderr
        return {tool["name"] for tool in json.loads(done.stdout)["tools"]}

    def call(self, tool: str, **arguments: str) -> subprocess.CompletedProcess[str]:
        """Call a tool."""
        pairs = [f"{name}={value}" for name, value in arguments.items()]
        given = [word for pair in pairs for word in ("--tool-arg", pair)]
        return self.run("--method", "tools/call", "--tool-name", tool, *given)


def over_stdio(example: Project, *connect: str) -> Inspector:
    """The Inspector starts `gateway connect`; it gives on no variable that it is not told to."""
    variables = [f"{name}={value}" for name, value in example.environment.items()]
    options = tuple(word for variable in variables for word in ("-e", variable))
    # Without --config, which the Inspector takes for an option of its own: the gateway finds it.
    return Inspector(
        example, sys.executable, "-m", "gateway", "connect", *connect, arguments=options
    )


def test_the_inspector_lists_and_calls_through_a_mirror(world: World, example: Project) -> None:
    inspector = over_stdio(example, "supabase")
    listed = inspector.tools()
    assert {"execute_sql", "list_tables"} <= listed < declared("supabase")
    query = "select name from products"
    called = inspector.call("execute_sql", project_id=world.project_ref, query=query)
    assert (called.returncode, called.stderr) == (0, "")
    assert "kettle" in called.stdout
    refused = inspector.call("delete_project", project_id=world.project_ref)
    assert refused.returncode != 0
    assert b"delete_project" not in example.received("supabase")
    assert ("mcp__supabase__execute_sql", "allow") in decided(example)


def test_the_inspector_lists_and_calls_through_the_aggregate(example: Project) -> None:
    inspector = over_stdio(example, "--all")
    assert "context7__resolve-library-id" in inspector.tools()
    called = inspector.call("context7__resolve-library-id", **LIBRARY)
    assert called.returncode == 0, called.stderr
    assert "/encode/starlette" in called.stdout


def test_the_inspector_lists_and_calls_over_http(example: Project) -> None:
    with example.served() as base:
        inspector = Inspector(example, f"{base}/context7/mcp", arguments=("--transport", "http"))
        assert inspector.tools() == {"resolve-library-id"}
        called = inspector.call("resolve-library-id", **LIBRARY)
        assert called.returncode == 0, called.stderr
        assert "/encode/starlette" in called.stdout
        refused = inspector.call("query-docs", libraryId="/encode/starlette", query="start")
        assert refused.returncode != 0
    assert b"query-docs" not in example.received("context7")
    assert ("mcp__context7__resolve-library-id", "allow") in decided(example)


# --- the Python SDK


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_the_python_client_lists_and_calls_over_stdio(example: Project, mode: str) -> None:
    command, *arguments = example.command("connect", "context7")
    environment = dict(example.environment)
    server = StdioServerParameters(command=command, args=arguments, env=environment)
    asyncio.run(_resolve(Client(server, mode=mode), "resolve-library-id"))
    assert decided(example)[-2:] == [
        ("mcp__context7__resolve-library-id", "allow"),
        ("mcp__context7__query-docs", "deny"),
    ]


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_the_python_client_lists_and_calls_over_http(example: Project, mode: str) -> None:
    with example.served() as base:
        asyncio.run(_resolve(Client(f"{base}/context7/mcp", mode=mode), "resolve-library-id"))
    assert decided(example)[-2:] == [
        ("mcp__context7__resolve-library-id", "allow"),
        ("mcp__context7__query-docs", "deny"),
    ]


def test_the_client_of_the_line_before_lists_and_calls_over_stdio_and_http(
    world: World, example: Project
) -> None:
    calls = [
        ("browser_navigate", {"url": world.page_url}),
        ("browser_take_screenshot", {}),
        ("browser_run_code_unsafe", {"code": "async (page) => page.url()"}),
    ]
    with example.served() as base:
        for server in (example.command("connect", "playwright"), f"{base}/playwright/mcp"):
            got = _run_mcp1(example, server, calls)
            assert set(got["tools"]) < declared("playwright")
            assert [result["isError"] for result in got["results"]] == [False, False, True]
            [image] = [part for part in got["results"][1]["content"] if part["type"] == "image"]
            assert base64.b64decode(image["data"]).startswith(b"\x89PNG\r\n\x1a\n")
    assert [decision for _, decision in decided(example)] == ["allow", "allow", "deny"] * 2


def _run_mcp1(example: Project, server: list[str] | str, calls: list[Any]) -> dict[str, Any]:
    told = {"server": server, "env": dict(example.environment), "calls": calls}
    done = subprocess.run(
        [python_client(), ROOT / "python/mcp1_client.py", json.dumps(told)],
        cwd=example.directory,
        env=dict(example.environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    got: dict[str, Any] = json.loads(done.stdout)
    return got


async def _resolve(connecting: Client, tool: str) -> None:
    async with connecting as client:
        assert [found.name for found in (await client.list_tools()).tools] == [tool]
        result = await client.call_tool(tool, dict(LIBRARY))
        assert not result.is_error
        assert "/encode/starlette" in _text(result.content)
        other: dict[str, Any] = {"libraryId": "/encode/starlette", "query": "start"}
        refused = await client.call_tool("query-docs", other)
        assert refused.is_error
        assert "not declared" in _text(refused.content)


def _text(content: list[Any]) -> str:
    return "".join(part.text for part in content if isinstance(part, TextContent))


def decided(example: Project) -> list[tuple[str, str]]:
    """Tool and decision of each recorded tool call."""
    calls = [record for record in example.records() if record["method"] == "tools/call"]
    return [(record["tool"], record["decision"]) for record in calls]
