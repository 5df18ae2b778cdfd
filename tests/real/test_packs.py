"""The shipped packs in front of real servers: what they let through, and what reaches nothing."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance import accept_in
from tests.policy.recordings import recorded
from tests.real.processes import nothing_left
from tests.real.rawclient import RawClient, text_of
from tests.real.recording import PACKS, generations_of, offered
from tests.real.standins.page import TITLE
from tests.real.through import Project, project, requests_of_tools
from tests.real.world import World

pytestmark = pytest.mark.real

QUERY_ROUTE = "POST /v1/projects/{ref}/database/query"

REFUSED_SQL = {
    "insert": "insert into products (name, price) values ('pan', 1)",
    "cte that writes": "with gone as (delete from orders returning id) select * from gone",
    "two statements": "select 1; delete from orders",
    "two statements in a comment's shadow": "select 1 /* a /* b */ */; delete from orders --",
    "a comment that hides its end": "select 1 -- \n; delete from orders",
    "a comment only the server runs": "/* select 1 */ delete from orders",
    "function that is not listed": "select pg_read_file('/etc/hostname')",
    "function of the administrator": "select pg_terminate_backend(1)",
    "function in a quoted name": "select \"pg_read_file\"('/etc/hostname')",
    "sequence": "select nextval('products_id_seq')",
    "lo_export": "select lo_export(1, '/tmp/out')",
    "vacuum": "vacuum products",
    "do": "do $$ begin delete from orders; end $$",
    "copy to program": "copy products to program 'cat > /tmp/out'",
    "copy of a query": "copy (select 1) to program 'sh'",
    "select into": "select name into copied from products",
    "lock": "select * from products for update",
    "explain that runs": "explain analyze delete from orders",
    "secrets": "select * from vault.decrypted_secrets",
    "nested parentheses": "select " + "(" * 200_000 + "1" + ")" * 200_000,
    "too long": "select 1 -- " + "x" * 400_000,
    "unparsable": "select from where ((",
    "no statement": "-- nothing",
}

REFUSED_URLS = (
    "http://127.0.0.1@evil",
    "http://127.0.0.1@evil.example/",
    "http://shop.example@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}/",
    "http://2130706433:{port}/",
    "http://2130706433/",
    "http://0x7f.1/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[::1]:{port}/",
    "http://localhost:{port}/",
    "http://shop.example:{port}/",
    "http://sh\u043ep.example/",
    "file:///etc/hostname",
)


@pytest.fixture(autouse=True)
def _nothing_left(world: World) -> Iterator[None]:
    with nothing_left():
        yield


def under_pack(
    world: World, directory: Path, upstream: str, *extra: str, more: str = ""
) -> Project:
    """The newest server with every tool declared, under its pack; `more` is a file of own rules."""
    entry = world.entry(upstream, "newest")
    made = project(
        directory,
        {upstream: replace(entry, args=(*entry.args, *extra))},
        tools=[f"mcp__{upstream}"],
        grants={},
    )
    policies = [f"pack:{upstream}"]
    if more:
        (directory / "own.yaml").write_text(more)
        policies.append("own.yaml")
    with made.config.open("a") as file:
        file.write(f"policies: {json.dumps(policies)}\n")
    accept_in(made.environment, made.config)
    return made


def select(client: RawClient, world: World, query: str) -> dict[str, Any]:
    return client.call("execute_sql", project_id=world.project_ref, query=query)


def rows_kept(world: World) -> object:
    with psycopg.connect(world.postgres.dsn) as connection:
        return connection.execute(
            "select (select count(*) from orders), (select count(*) from products)"
        ).fetchone()


def test_supabase_reads_and_nothing_else_reaches_the_database(world: World, tmp_path: Path) -> None:
    under = under_pack(world, tmp_path, "supabase")
    before = rows_kept(world)
    with under.connected("supabase") as client:
        rows = select(client, world, "select name from products where price > 100")
        assert not rows.get("isError"), rows
        assert "chair" in text_of(rows)
        counts, statements = requests_of_tools(world), world.postgres.statements()
        assert statements > 0
        for name, query in REFUSED_SQL.items():
            refused = select(client, world, query)
            assert refused["isError"] is True, name
            assert "supabase-reading" in text_of(refused), name
            assert requests_of_tools(world) == counts, name
        # PostgreSQL's own word for it.
        assert world.postgres.statements() == statements
        rows = select(client, world, "select count(*) from products")
        assert not rows.get("isError"), rows
        assert requests_of_tools(world)["supabase"] - counts["supabase"] == {QUERY_ROUTE: 1}
        assert world.postgres.statements() > statements
    assert rows_kept(world) == before
    assert under.received("supabase").count(b'"tools/call"') == 2
    denied = [record for record in under.records() if record["decision"] == "deny"]
    assert {record["rule"] for record in denied} == {"supabase-reading"}
    assert {record["file"] for record in denied} == {"pack:supabase"}
    assert len(denied) == len(REFUSED_SQL)


@pytest.mark.parametrize(
    ("tool", "arguments", "rule"),
    [
        ("create_branch", {"name": "b", "confirm_cost_id": "c"}, "supabase-projects"),
        ("pause_project", {}, "supabase-projects"),
        ("deploy_edge_function", {"name": "f", "files": []}, "supabase-changes"),
    ],
)
def test_supabase_is_changed_by_nothing(
    world: World, tmp_path: Path, tool: str, arguments: dict[str, Any], rule: str
) -> None:
    under = under_pack(world, tmp_path, "supabase")
    with under.connected("supabase") as client:
        counts = requests_of_tools(world)
        refused = client.call(tool, project_id=world.project_ref, **arguments)
        assert requests_of_tools(world) == counts
    assert refused["isError"] is True
    [record] = under.records()
    assert (record["rule"], record["file"]) == (rule, "pack:supabase")


def browsing(world: World, directory: Path, more: str = "") -> Project:
    """Playwright under its pack, with a browser to which public names are the website."""
    port = world.stand_ins["page"].port
    rules = f"--host-resolver-rules=MAP *.example 127.0.0.1:{port}"
    settings = directory / "browser.json"
    settings.write_text(json.dumps({"browser": {"launchOptions": {"args": [rules]}}}))
    arguments = ("--config", str(settings))
    return under_pack(world, directory / "project", "playwright", *arguments, more=more)


def visits(world: World) -> Counter[str]:
    """What the website was asked for, without what a browser fetches when it likes."""
    counts = world.counts()["page"]
    counts.pop("GET /favicon.ico", None)
    return counts


def test_playwright_goes_to_public_hosts_and_nowhere_else(world: World, tmp_path: Path) -> None:
    port = world.stand_ins["page"].port
    under = browsing(world, tmp_path)
    with under.connected("playwright") as client:
        page = client.call("browser_navigate", url="http://shop.example/")
        assert not page.get("isError"), page
        assert TITLE in text_of(client.call("browser_snapshot"))
        counts = visits(world)
        for text in REFUSED_URLS:
            url = text.format(port=port)
            assert client.call("browser_navigate", url=url)["isError"] is True, url
            assert client.call("browser_tabs", action="new", url=url)["isError"] is True, url
        assert visits(world) == counts
    assert under.received("playwright").count(b'"browser_navigate"') == 1
    assert b'"browser_tabs"' not in under.received("playwright")
    denied = [record for record in under.records() if record["decision"] == "deny"]
    assert {record["file"] for record in denied} == {"pack:playwright"}
    assert len(denied) == 2 * len(REFUSED_URLS)


def test_an_own_rule_narrows_the_hosts_further(world: World, tmp_path: Path) -> None:
    schema = {"properties": {"url": {"url": {"schemes": ["http"], "hosts": ["shop.example"]}}}}
    own = {
        "name": "our-shop",
        "effect": "allow-only-if",
        "tools": ["mcp__playwright__browser_navigate", "mcp__playwright__browser_tabs"],
        "unlisted": "allow",
        "optional": "url",
        "arguments": schema,
    }
    under = browsing(world, tmp_path, json.dumps({"rules": [own]}))
    with under.connected("playwright") as client:
        page = client.call("browser_navigate", url="http://shop.example/")
        assert not page.get("isError"), page
        counts = visits(world)
        for url in ("http://other.example/", "http://shop.example.other.example/"):
            for tool, more in (("browser_navigate", {}), ("browser_tabs", {"action": "new"})):
                refused = client.call(tool, url=url, **more)
                assert refused["isError"] is True
                assert "our-shop" in text_of(refused)
        assert client.call("browser_navigate", url="http://127.0.0.1/")["isError"] is True
        assert visits(world) == counts


def test_where_a_page_leads_is_the_documented_limit(world: World, tmp_path: Path) -> None:
    """The guard sees what the model asks for, not what a link in the page says."""
    under = browsing(world, tmp_path)
    with under.connected("playwright") as client:
        client.call("browser_navigate", url="http://shop.example/")
        page = text_of(client.call("browser_snapshot"))
        found = re.search(r'link "About this page".*?\[ref=(\w+)\]', page)
        assert found is not None, page
        counts = visits(world)
        client.call("browser_click", element="About", target=found[1])
        assert visits(world) - counts == {"GET /about": 1}


def test_where_a_redirect_leads_is_the_documented_limit(world: World, tmp_path: Path) -> None:
    """The guard sees the address that the model asks for, not where a server sends the browser."""
    port = world.stand_ins["page"].port
    private = f"http://127.0.0.1:{port}/about"
    under = browsing(world, tmp_path)
    with under.connected("playwright") as client:
        counts = visits(world)
        assert client.call("browser_navigate", url=private)["isError"] is True
        assert visits(world) == counts
        page = client.call("browser_navigate", url=f"http://shop.example/away?to={private}")
        assert not page.get("isError"), page
        assert private in text_of(page)
        assert visits(world) - counts == {"GET /away": 1, "GET /about": 1}


def test_playwright_runs_no_code_and_reads_no_files(world: World, tmp_path: Path) -> None:
    under = under_pack(world, tmp_path, "playwright")
    with under.connected("playwright") as client:
        names = {tool["name"] for tool in client.tools()}
        assert "browser_navigate" in names
        assert not names & {"browser_evaluate", "browser_file_upload", "browser_drop"}
        for tool, arguments in (
            ("browser_evaluate", {"function": "() => 1"}),
            ("browser_run_code_unsafe", {"code": "async (page) => page.url()"}),
            ("browser_file_upload", {"paths": ["/etc/hostname"]}),
            ("browser_take_screenshot", {"filename": "../../picture.png"}),
        ):
            assert client.call(tool, **arguments)["isError"] is True, tool
    assert b'"tools/call"' not in under.received("playwright")
    assert len(under.records()) == 4


@pytest.mark.parametrize("upstream", PACKS)
def test_the_packs_are_tested_on_what_the_servers_offer(world: World, upstream: str) -> None:
    found = {each: offered(world, upstream, each) for each in generations_of(upstream)}
    assert found == recorded(upstream), "run `python -m tests.real.recording`, then mend the packs"
