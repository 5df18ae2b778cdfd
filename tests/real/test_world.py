"""Every real MCP server of both generations, driven directly: what other real tests stand on."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest
import yaml

from tests.real import installed
from tests.real.installed import GENERATIONS, Generation, SetupMissingError
from tests.real.rawclient import RawClient, RemoteError, ServerGoneError, text_of, wait_ended
from tests.real.standins.context7 import DOCUMENTATION
from tests.real.standins.page import TITLE
from tests.real.standins.supabase import ANON_KEY
from tests.real.world import AGENT_FILE, World

pytestmark = pytest.mark.real

both_generations = pytest.mark.parametrize("generation", GENERATIONS)
Connect = Callable[[str, Generation], AbstractContextManager[RawClient]]

DECLARED_TOOLS = re.findall(r"^tools: (.*)$", AGENT_FILE.read_text(), re.MULTILINE)[0].split(", ")
NEWEST_DRIFT = {
    "supabase": {"get_anon_key", "get_logs"},
    "firecrawl": {"firecrawl_deep_research", "firecrawl_generate_llmstxt"},
    "context7": {"get-library-docs"},
    "playwright": {
        *("browser_install", "browser_navigate_forward", "browser_tab_list"),
        *("browser_tab_new", "browser_tab_select", "browser_tab_close"),
    },
}


@pytest.fixture
def connect(world: World, tmp_path: Path) -> Connect:
    """Opens a client to an upstream, in an otherwise empty environment."""

    @contextmanager
    def open_client(name: str, generation: Generation) -> Iterator[RawClient]:
        entry = world.entry(name, generation)
        env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **entry.env}
        with RawClient([entry.command, *entry.args], env=env, cwd=tmp_path) as client:
            yield client

    return open_client


@pytest.fixture(autouse=True)
def _no_strays(world: World) -> Iterator[None]:
    """No test may make a server ask for a route or a host that no stand-in knows."""
    before = _strays(world)
    yield
    assert _strays(world) == before


def _strays(world: World) -> list[str]:
    routes = [route for counts in world.counts().values() for route in counts]
    return [route for route in routes if route.startswith(("unrouted", "refused"))]


def declared(upstream: str) -> set[str]:
    prefix = f"mcp__{upstream}__"
    return {name.removeprefix(prefix) for name in DECLARED_TOOLS if name.startswith(prefix)}


# --- what they offer


def test_the_example_agent_declares_11_native_and_62_mcp_tools() -> None:
    assert len(DECLARED_TOOLS) == len(set(DECLARED_TOOLS)) == 73
    assert sum(name.startswith("mcp__") for name in DECLARED_TOOLS) == 62


@pytest.mark.parametrize("name", sorted(NEWEST_DRIFT))
def test_the_matching_servers_offer_exactly_the_declared_tools(connect: Connect, name: str) -> None:
    with connect(name, "matching") as client:
        assert {tool["name"] for tool in client.tools()} == declared(name)


@pytest.mark.parametrize(
    ("name", "count"), [("supabase", 29), ("firecrawl", 29), ("context7", 2), ("playwright", 25)]
)
def test_the_newest_servers_lack_the_tools_that_drifted(
    connect: Connect, name: str, count: int
) -> None:
    with connect(name, "newest") as client:
        offered = {tool["name"] for tool in client.tools()}
    assert declared(name) - offered == NEWEST_DRIFT[name]
    assert len(offered) == count


# --- supabase


@both_generations
def test_supabase_runs_sql_on_a_real_database(
    connect: Connect, world: World, generation: Generation
) -> None:
    with connect("supabase", generation) as client:
        result = client.call(
            "execute_sql",
            project_id=world.project_ref,
            query="select name, price from products where price > 50 order by price",
        )
        assert not result.get("isError")
        rows = re.search(r"\[\{.*\}\]", text_of(result).replace('\\"', '"'))
        assert rows is not None
        assert json.loads(rows[0]) == [
            {"name": "lamp", "price": "61.00"},
            {"name": "chair", "price": "129.50"},
        ]
        failed = client.call("execute_sql", project_id=world.project_ref, query="select * from no")
        assert failed["isError"] is True
        assert '42P01: relation \\"no\\" does not exist' in text_of(failed)


@both_generations
def test_supabase_lists_tables_with_their_rows(
    connect: Connect, world: World, generation: Generation
) -> None:
    with connect("supabase", generation) as client:
        result = client.call("list_tables", project_id=world.project_ref, schemas=["public"])
    tables = json.loads(text_of(result))
    tables = tables["tables"] if isinstance(tables, dict) else tables
    rows = {table["name"].removeprefix("public."): table["rows"] for table in tables}
    assert rows.items() >= {"products": 3, "orders": 2}.items()


@both_generations
def test_supabase_applies_and_lists_migrations(
    connect: Connect, world: World, generation: Generation
) -> None:
    name, ref = f"add_{generation}_notes", world.project_ref
    query = f"create table {generation}_notes (id integer primary key, note text)"
    with connect("supabase", generation) as client:
        applied = client.call("apply_migration", project_id=ref, name=name, query=query)
        assert json.loads(text_of(applied)) == {"success": True}
        assert name in text_of(client.call("list_migrations", project_id=ref))
        broken = client.call("apply_migration", project_id=ref, name="broken", query="create it")
        assert broken["isError"] is True
        assert "broken" not in text_of(client.call("list_migrations", project_id=ref))
    with psycopg.connect(world.postgres.dsn) as connection:
        found = connection.execute("select to_regclass(%s)", [f"{generation}_notes"]).fetchone()
    assert found == (f"{generation}_notes",)


@both_generations
def test_supabase_knows_its_organization_and_project(
    connect: Connect, world: World, generation: Generation
) -> None:
    with connect("supabase", generation) as client:
        assert "Test organization" in text_of(client.call("list_organizations"))
        assert world.project_ref in text_of(client.call("list_projects"))
        assert "ACTIVE_HEALTHY" in text_of(client.call("get_project", id=world.project_ref))
        key = "get_anon_key" if generation == "matching" else "get_publishable_keys"
        assert ANON_KEY in text_of(client.call(key, project_id=world.project_ref))


@both_generations
def test_supabase_searches_documentation(
    connect: Connect, world: World, generation: Generation
) -> None:
    tunnels = world.counts()["proxy"]["supabase.com"]
    with connect("supabase", generation) as client:
        result = client.call("search_docs", graphql_query=_SEARCH)
    assert "Row Level Security" in text_of(result)
    went_through_proxy = world.counts()["proxy"]["supabase.com"] > tunnels
    assert went_through_proxy is (generation == "matching")


_SEARCH = '{ searchDocs(query: "rls") { nodes { title } } }'


# --- firecrawl


@both_generations
def test_firecrawl_scrapes_maps_and_searches(
    connect: Connect, world: World, generation: Generation
) -> None:
    version = {"newest": "v2", "matching": "v1"}[generation]
    before = world.counts()["firecrawl"]
    with connect("firecrawl", generation) as client:
        kettles = "https://shop.example/kettles"
        page = client.call("firecrawl_scrape", url=kettles, formats=["markdown"])
        assert "A kettle costs 24.90." in text_of(page)
        links = client.call("firecrawl_map", url="https://shop.example/")
        assert "https://shop.example/lamps" in text_of(links)
        hits = client.call("firecrawl_search", query="lamp costs")
        assert "https://shop.example/lamps" in text_of(hits)
    assert world.counts()["firecrawl"] - before == {
        f"POST /{version}/scrape": 1,
        f"POST /{version}/map": 1,
        f"POST /{version}/search": 1,
    }


# --- context7


def test_context7_resolves_and_queries_in_the_newest_generation(connect: Connect) -> None:
    with connect("context7", "newest") as client:
        found = client.call("resolve-library-id", libraryName="starlette", query="how to start")
        assert "/encode/starlette" in text_of(found)
        docs = client.call("query-docs", libraryId="/encode/starlette", query="how to start")
    assert DOCUMENTATION in text_of(docs)


def test_context7_resolves_and_fetches_in_the_matching_generation(
    connect: Connect, world: World
) -> None:
    tunnels = world.counts()["proxy"]["context7.com"]
    with connect("context7", "matching") as client:
        found = client.call("resolve-library-id", libraryName="starlette")
        assert "/encode/starlette" in text_of(found)
        docs = client.call("get-library-docs", context7CompatibleLibraryID="/encode/starlette")
    assert DOCUMENTATION in text_of(docs)
    assert world.counts()["proxy"]["context7.com"] > tunnels


# --- playwright


@both_generations
def test_playwright_fills_in_a_form_in_a_real_browser(
    connect: Connect, world: World, generation: Generation
) -> None:
    orders = len(_orders(world))
    with connect("playwright", generation) as client:
        assert TITLE in text_of(client.call("browser_navigate", url=world.page_url))
        page = text_of(client.call("browser_snapshot"))
        assert "Nothing ordered yet" in page
        reference = "target" if generation == "newest" else "ref"
        field = {"element": "Product", reference: _reference(page, 'textbox "Product"')}
        button = {"element": "Place order", reference: _reference(page, 'button "Place order"')}
        client.call("browser_type", text="a kettle", **field)
        client.call("browser_click", **button)
        client.call("browser_wait_for", text="Ordered: a kettle")
        assert "Ordered: a kettle" in text_of(client.call("browser_snapshot"))
        screenshot = client.call("browser_take_screenshot")
    images = [part for part in screenshot["content"] if part["type"] == "image"]
    assert [image["mimeType"] for image in images] == ["image/png"]
    assert base64.b64decode(images[0]["data"]).startswith(b"\x89PNG\r\n\x1a\n")
    assert _orders(world)[orders:] == [b"a kettle"]


def _orders(world: World) -> list[bytes]:
    requests = world.stand_ins["page"].requests()
    return [request.body for request in requests if request.route == "POST /orders"]


def _reference(snapshot: str, what: str) -> str:
    found = re.search(re.escape(what) + r".*?\[ref=(\w+)\]", snapshot)
    assert found is not None, snapshot
    return found[1]


# --- the official reference servers


def test_everything_echoes(connect: Connect) -> None:
    with connect("everything", "newest") as client:
        assert text_of(client.call("echo", message="hello")) == "Echo: hello"
        assert len(client.tools()) == 13


def test_filesystem_serves_its_folder_only(connect: Connect, world: World) -> None:
    with connect("filesystem", "newest") as client:
        listing = client.call("list_directory", path=str(world.addresses.files))
        assert text_of(listing) == "[FILE] notes.txt"
        assert client.call("list_directory", path="/")["isError"] is True


# --- the world itself


def test_a_wrong_token_is_refused_by_the_stand_in(world: World, tmp_path: Path) -> None:
    entry = world.entry("supabase", "newest")
    env = {**entry.env, "SUPABASE_ACCESS_TOKEN": "sbp_wrong"}
    with RawClient([entry.command, *entry.args], env=env, cwd=tmp_path) as client:
        result = client.call("list_projects")
    assert result["isError"] is True
    assert "Unauthorized" in text_of(result)


def test_a_server_without_its_credential_shows_why_it_ended(world: World, tmp_path: Path) -> None:
    entry = world.entry("supabase", "matching")
    env = {name: value for name, value in entry.env.items() if name != "SUPABASE_ACCESS_TOKEN"}
    with (
        pytest.raises(ServerGoneError, match="personal access token"),
        RawClient([entry.command, *entry.args], env=env, cwd=tmp_path),
    ):
        pass


def test_the_client_raises_what_a_server_answers_as_an_error(connect: Connect) -> None:
    with connect("firecrawl", "newest") as client, pytest.raises(RemoteError) as raised:
        client.call("no_such_tool")
    assert raised.value.error["code"] == -32601


@both_generations
def test_a_written_configuration_holds_references_instead_of_credentials(
    world: World, tmp_path: Path, generation: Generation
) -> None:
    path = world.write_config(tmp_path / "project", generation)
    text = path.read_text()
    config = yaml.safe_load(text)
    assert config["upstreams"].keys() == NEWEST_DRIFT.keys()
    assert config["upstreams"]["supabase"]["env"]["SUPABASE_ACCESS_TOKEN"] == (
        "${SUPABASE_ACCESS_TOKEN}"
    )
    assert not any(secret in text for secret in world.environment.values())
    assert (path.parent / config["agents_from"][0] / AGENT_FILE.name).read_bytes() == (
        AGENT_FILE.read_bytes()
    )


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder whose path is short enough for a socket and open to the database's user."""
    with tempfile.TemporaryDirectory(prefix="real-test-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.mark.parametrize("end", ["stdin", "SIGTERM", "SIGKILL"])
def test_a_world_in_its_own_process_leaves_none_behind(end: str, temporary: Path) -> None:
    command = [sys.executable, "-m", "tests.real.world", "--generation", "matching"]
    with subprocess.Popen(
        command,
        cwd=installed.ROOT.parents[1],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        described = json.loads(process.stdout.readline())
        assert described["environment"].keys() == {"SUPABASE_ACCESS_TOKEN", "FIRECRAWL_API_KEY"}
        assert Path(described["config"]).is_file()
        children = psutil.Process(process.pid).children(recursive=True)
        assert "postgres" in {child.name() for child in children}
        if end == "stdin":
            process.stdin.close()
        else:
            process.send_signal(signal.Signals[end])
        assert process.wait(15) == (-signal.SIGKILL if end == "SIGKILL" else 0)
    assert wait_ended(children, timeout_s=5) == []
    if end != "SIGKILL":
        assert list(temporary.iterdir()) == []


def test_a_missing_set_up_says_how_to_run_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "servers" / "newest"
    folder.mkdir(parents=True)
    (folder / "package-lock.json").write_text("{}")
    monkeypatch.setattr(installed, "ROOT", tmp_path)
    with pytest.raises(SetupMissingError, match="run tests/real/setup"):
        installed.server_script("newest", "firecrawl-mcp/dist/index.js")
