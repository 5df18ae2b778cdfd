"""The four real servers behind one connection, over stdio, and as a service over HTTP."""

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from mcp import Client
from mcp.types import ImageContent, TextContent

from tests.real.installed import GENERATIONS, Generation
from tests.real.processes import nothing_left
from tests.real.rawclient import text_of
from tests.real.through import Project, declared, example_project, requests_of_tools, result_bytes
from tests.real.world import EXAMPLE_UPSTREAMS, World

pytestmark = pytest.mark.real

NEWEST_TOOLS = 51
MATCHING_TOOLS = 62


@pytest.fixture(autouse=True)
def _nothing_left(world: World) -> Iterator[None]:
    with nothing_left():
        yield


@pytest.mark.parametrize("generation", GENERATIONS)
def test_one_connection_lists_and_calls_all_four_servers(
    world: World, tmp_path: Path, generation: Generation
) -> None:
    example = example_project(world, tmp_path, generation)
    query = {"project_id": world.project_ref, "query": "select name from products"}
    with example.connected() as client:
        assert client.initialize["serverInfo"]["name"] == "mcp-tool-gateway"
        names = {tool["name"] for tool in client.tools()}
        declared_names = {f"{up}__{tool}" for up in EXAMPLE_UPSTREAMS for tool in declared(up)}
        assert names <= declared_names
        assert len(names) == {"newest": NEWEST_TOOLS, "matching": MATCHING_TOOLS}[generation]

        assert "kettle" in text_of(client.call("supabase__execute_sql", **query))
        assert "Order form" in text_of(
            client.call("playwright__browser_navigate", url=world.page_url)
        )
        screenshot = client.call("playwright__browser_take_screenshot")
        [image] = [part for part in screenshot["content"] if part["type"] == "image"]
        assert base64.b64decode(image["data"]).startswith(b"\x89PNG")
        line = client.last_line
        page = client.call("firecrawl__firecrawl_scrape", **_LAMPS)
        assert "A lamp costs 61.00." in text_of(page)
        found = client.call("context7__resolve-library-id", **_LIBRARY)
        assert "/encode/starlette" in text_of(found)

        requests = requests_of_tools(world)
        for name in ("supabase__delete_project", "execute_sql", "mcp__supabase__execute_sql"):
            assert client.call(name, **query)["isError"] is True
        assert requests_of_tools(world) == requests
    assert b"delete_project" not in example.received("supabase")
    assert result_bytes(line) in example.emitted("playwright")
    records = example.records()
    assert [record["decision"] for record in records] == ["allow"] * 5 + ["deny"] * 3


def test_http_serves_mirrors_and_the_aggregate(world: World, tmp_path: Path) -> None:
    example = example_project(world, tmp_path, "newest")
    with example.served() as base:
        asyncio.run(_use_mirror(f"{base}/playwright/mcp", world))
        asyncio.run(_use_aggregate(f"{base}/mcp", world, example))
    decided = [(record["tool"], record["decision"]) for record in example.records()]
    assert decided == [
        ("mcp__playwright__browser_navigate", "allow"),
        ("mcp__playwright__browser_take_screenshot", "allow"),
        ("mcp__playwright__browser_run_code_unsafe", "deny"),
        ("mcp__supabase__execute_sql", "allow"),
        ("mcp__firecrawl__firecrawl_scrape", "allow"),
        ("mcp__context7__resolve-library-id", "allow"),
        ("mcp__supabase__delete_project", "deny"),
    ]


async def _use_mirror(url: str, world: World) -> None:
    async with Client(url, mode="legacy") as client:
        offered = {tool.name for tool in (await client.list_tools()).tools}
        assert offered < declared("playwright")
        await client.call_tool("browser_navigate", {"url": world.page_url})
        screenshot = await client.call_tool("browser_take_screenshot", {})
        [image] = [part for part in screenshot.content if isinstance(part, ImageContent)]
        assert base64.b64decode(image.data).startswith(b"\x89PNG\r\n\x1a\n")
        code = {"code": "async (page) => page.url()"}
        assert (await client.call_tool("browser_run_code_unsafe", code)).is_error


async def _use_aggregate(url: str, world: World, example: Project) -> None:
    project = {"project_id": world.project_ref}
    calls = [
        ("supabase__execute_sql", {**project, "query": "select name from products"}, "kettle"),
        ("firecrawl__firecrawl_scrape", _LAMPS, "61.00"),
        ("context7__resolve-library-id", _LIBRARY, "/encode/starlette"),
    ]
    async with Client(url, mode="legacy") as client:
        assert len((await client.list_tools()).tools) == NEWEST_TOOLS
        for name, arguments, expected in calls:
            result = await client.call_tool(name, arguments)
            text = "".join(part.text for part in result.content if isinstance(part, TextContent))
            assert not result.is_error, text
            assert expected in text
        requests = requests_of_tools(world)
        assert (await client.call_tool("supabase__delete_project", project)).is_error
        assert requests_of_tools(world) == requests


_LAMPS = {"url": "https://shop.example/lamps", "formats": ["markdown"]}
_LIBRARY = {"libraryName": "starlette", "query": "how to start"}
