"""Every real server of both generations through `gateway connect`, one connection per server."""

import base64
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.real.installed import GENERATIONS, Generation
from tests.real.processes import nothing_left
from tests.real.rawclient import RawClient, text_of
from tests.real.standins.context7 import DOCUMENTATION
from tests.real.through import Project, declared, example_project, requests_of_tools, result_bytes
from tests.real.world import AGENT_FILE, EXAMPLE_UPSTREAMS, World

pytestmark = pytest.mark.real

both_generations = pytest.mark.parametrize("generation", GENERATIONS)
every_upstream = pytest.mark.parametrize("upstream", EXAMPLE_UPSTREAMS)

UNDECLARED = {
    "supabase": ("delete_project", {"project_id": "abcdefghijklmnopqrst"}),
    "playwright": ("browser_run_code_unsafe", {"code": "async (page) => page.url()"}),
    "firecrawl": ("firecrawl_agent", {"prompt": "find kettles"}),
    "context7": ("query-docs", {"libraryId": "/encode/starlette", "query": "start"}),
}
DECLARING_LINE = AGENT_FILE.read_text().split("\ntools:")[0].count("\n") + 2


@pytest.fixture(autouse=True)
def _nothing_left(world: World) -> Iterator[None]:
    with nothing_left():
        yield


@pytest.fixture
def example(world: World, tmp_path: Path, generation: Generation) -> Project:
    """The shipped example with the servers of the test's generation."""
    return example_project(world, tmp_path, generation)


def call(client: RawClient, tool: str, **arguments: Any) -> dict[str, Any]:
    """The result of a call that must succeed."""
    result = client.call(tool, **arguments)
    assert not result.get("isError"), result
    return result


def decisions(project: Project) -> list[tuple[str, str, str]]:
    """Tool, decision and status of each recorded call, in their order."""
    return [(r["tool"], r["decision"], r.get("status", "-")) for r in project.records()]


# --- listing


@both_generations
@every_upstream
def test_the_listing_is_what_is_declared_and_offered(
    world: World, example: Project, tmp_path: Path, upstream: str, generation: Generation
) -> None:
    entry = world.entry(upstream, generation)
    environment = {**example.environment, **entry.env}
    with RawClient([entry.command, *entry.args], env=environment, cwd=tmp_path) as direct:
        offered = direct.tools()
    with example.connected(upstream) as client:
        assert client.initialize["serverInfo"] == direct.initialize["serverInfo"]
        assert client.initialize["protocolVersion"] == direct.initialize["protocolVersion"]
        assert client.initialize.get("instructions") == direct.initialize.get("instructions")
        listed = client.tools()
    assert listed == [tool for tool in offered if tool["name"] in declared(upstream)]
    assert len(listed) >= 1


# --- refusing


@both_generations
@every_upstream
def test_an_undeclared_call_reaches_neither_the_server_nor_its_service(
    world: World, example: Project, upstream: str
) -> None:
    tool, arguments = UNDECLARED[upstream]
    with example.connected(upstream) as client:
        requests = requests_of_tools(world)
        refused = client.call(tool, **arguments)
        assert requests_of_tools(world) == requests
    assert b'"tools/call"' not in example.received(upstream)
    assert refused["isError"] is True
    file = f"agents/{AGENT_FILE.name}"
    assert f"{file}:{DECLARING_LINE}" in text_of(refused)
    [record] = example.records()
    assert (record["tool"], record["decision"]) == (f"mcp__{upstream}__{tool}", "deny")
    assert (record["file"], record["line"]) == (file, DECLARING_LINE)


# --- playwright


@both_generations
def test_playwright_fills_in_a_form_and_its_screenshot_passes_unchanged(
    world: World, example: Project, generation: Generation
) -> None:
    orders = _orders(world)
    with example.connected("playwright") as client:
        call(client, "browser_navigate", url=world.page_url)
        page = text_of(call(client, "browser_snapshot"))
        assert "Nothing ordered yet" in page
        reference = "target" if generation == "newest" else "ref"
        field = {"element": "Product", reference: _reference(page, 'textbox "Product"')}
        button = {"element": "Place order", reference: _reference(page, 'button "Place order"')}
        call(client, "browser_type", text="a lamp", **field)
        call(client, "browser_click", **button)
        call(client, "browser_wait_for", text="Ordered: a lamp")
        screenshot = call(client, "browser_take_screenshot")
        line = client.last_line
    [image] = [part for part in screenshot["content"] if part["type"] == "image"]
    assert base64.b64decode(image["data"]).startswith(b"\x89PNG\r\n\x1a\n")
    assert image["data"].encode() in result_bytes(line)
    assert result_bytes(line) in example.emitted("playwright")
    assert _orders(world) == orders + 1
    assert decisions(example) == [
        (f"mcp__playwright__browser_{tool}", "allow", "ok")
        for tool in ("navigate", "snapshot", "type", "click", "wait_for", "take_screenshot")
    ]


def _orders(world: World) -> int:
    return world.counts()["page"]["POST /orders"]


def _reference(snapshot: str, what: str) -> str:
    found = re.search(re.escape(what) + r".*?\[ref=(\w+)\]", snapshot)
    assert found is not None, snapshot
    return found[1]


# --- supabase


@both_generations
def test_supabase_changes_and_reads_a_real_database(
    world: World, example: Project, generation: Generation
) -> None:
    ref, table = world.project_ref, f"{generation}_through_gateway"
    with example.connected("supabase") as client:
        tables = call(client, "list_tables", project_id=ref, schemas=["public"])
        assert "products" in text_of(tables)
        query = f"create table {table} (note text); insert into {table} values ('kept')"
        applied = call(client, "apply_migration", project_id=ref, name=table, query=query)
        assert json.loads(text_of(applied)) == {"success": True}
        rows = call(client, "execute_sql", project_id=ref, query=f"select note from {table}")
        assert "kept" in text_of(rows)
        line = client.last_line
        failed = client.call("execute_sql", project_id=ref, query="select * from no")
        assert failed["isError"] is True
    assert result_bytes(line) in example.emitted("supabase")
    with psycopg.connect(world.postgres.dsn) as connection:
        found = connection.execute("select to_regclass(%s)", [table]).fetchone()
    assert found == (table,)
    assert [status for _, _, status in decisions(example)] == ["ok", "ok", "ok", "tool_error"]


# --- firecrawl


@both_generations
def test_firecrawl_scrapes_maps_and_searches(
    world: World, example: Project, generation: Generation
) -> None:
    version = {"newest": "v2", "matching": "v1"}[generation]
    before = world.counts()["firecrawl"]
    with example.connected("firecrawl") as client:
        kettles = "https://shop.example/kettles"
        page = call(client, "firecrawl_scrape", url=kettles, formats=["markdown"])
        assert "A kettle costs 24.90." in text_of(page)
        line = client.last_line
        links = call(client, "firecrawl_map", url="https://shop.example/")
        assert "https://shop.example/lamps" in text_of(links)
        hits = call(client, "firecrawl_search", query="lamp costs")
        assert "https://shop.example/lamps" in text_of(hits)
    assert result_bytes(line) in example.emitted("firecrawl")
    routes = [f"POST /{version}/{name}" for name in ("scrape", "map", "search")]
    assert world.counts()["firecrawl"] - before == Counter(routes)


# --- context7


@both_generations
def test_context7_resolves_and_documents(example: Project, generation: Generation) -> None:
    with example.connected("context7") as client:
        asked = {"query": "how to start"} if generation == "newest" else {}
        found = call(client, "resolve-library-id", libraryName="starlette", **asked)
        assert "/encode/starlette" in text_of(found)
        line = client.last_line
        library = {"context7CompatibleLibraryID": "/encode/starlette"}
        docs = client.call("get-library-docs", **library)
    assert result_bytes(line) in example.emitted("context7")
    if generation == "matching":
        assert DOCUMENTATION in text_of(docs)
    else:  # declared, but renamed upstream since
        assert docs["isError"] is True
        assert "does not offer it now" in text_of(docs)
