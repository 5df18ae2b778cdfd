"""The shipped packs: they load by their names, and each decides on real tools as it says."""

import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.catalog.listing import build_catalog
from gateway.config.load import load
from gateway.policy.decide import decide
from gateway.policy.rules import matches
from gateway.policy.snapshot import Snapshot
from gateway.policy.trial import answers_to
from gateway.policy.values import Action, Context, Decision
from tests.policy.recordings import recorded

ROOT = Path(__file__).parents[2]
PACKS = tuple(sorted(path.stem for path in (ROOT / "policies/packs").glob("*.yaml")))
BOTH = ("newest", "matching")
NEWEST = ("newest",)
REF = "abcdefghijklmnopqrst"
SHOP = "https://shop.example/"

AGENT = "---\nname: a\ndescription: d\ntools:\n{}---\nYou are a.\n"


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """The agent `a`, which declares everything of every upstream, under all packs."""
    root = tmp_path_factory.mktemp("packs")
    (root / ".git").mkdir()
    (root / "agents").mkdir()
    (root / "agents/a.md").write_text(AGENT.format("".join(f"- mcp__{p}\n" for p in PACKS)))
    upstreams = "".join(f"  {pack}: {{command: none}}\n" for pack in PACKS)
    packs = ", ".join(f"pack:{pack}" for pack in PACKS)
    config = f"agents_from: agents\npolicies: [{packs}]\nupstreams:\n{upstreams}"
    (root / "gateway.yaml").write_text(config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        patch.setenv("XDG_STATE_HOME", str(root / "state"))
        patch.delenv("MCP_TOOL_GATEWAY_CONFIG", raising=False)
        return load(None, cwd=root, trusted=True).snapshot


def decided(
    snapshot: Snapshot, upstream: str, generation: str, tool: str, arguments: Mapping[str, Any]
) -> Decision:
    """The decision on a call, with the tools that the server of this generation offers."""
    schemas = recorded(upstream)[generation]
    assert tool in schemas, f"{generation} {upstream} offers no {tool}"
    catalog = build_catalog(
        upstream, [{"name": name, "inputSchema": each} for name, each in schemas.items()]
    )
    context = Context(
        catalog=catalog,
        arguments=arguments,
        answers=answers_to("a", f"mcp__{upstream}__{tool}", arguments, snapshot),
    )
    return decide("a", Action("tool", "tools/call", upstream, tool), snapshot, context)


def sql(query: str) -> dict[str, str]:
    return {"project_id": REF, "query": query}


def path(text: str) -> dict[str, str]:
    return {"path": text}


# Upstream, generations, tool, arguments, and the rule that refuses: "" where none does.
CALLS: list[tuple[str, tuple[str, ...], str, dict[str, Any], str]] = [
    ("supabase", BOTH, "execute_sql", sql("select name from products where id = 1"), ""),
    ("supabase", BOTH, "execute_sql", sql("explain select count(*) from public.orders"), ""),
    (
        "supabase",
        BOTH,
        "execute_sql",
        sql("select table_name from information_schema.tables"),
        "",
    ),
    *(
        ("supabase", BOTH, "execute_sql", sql(query), "supabase-reading")
        for query in (
            "insert into products (name) values ('x')",
            "update products set price = 0",
            "with gone as (delete from orders returning *) select * from gone",
            "select 1; drop table orders",
            "select name into copied from products",
            "select * from auth.users",
            "select decrypted_secret from vault.decrypted_secrets",
            "select rolpassword from pg_authid",
            "select pg_sleep(60)",
            "select pg_read_file('/etc/passwd')",
            "select set_config('role', 'postgres', false)",
            "select lo_export(1, '/tmp/x')",
            "explain analyze select 1",
            "select * from products for update",
            "copy products to program 'sh'",
            "vacuum",
            "do $$ begin end $$",
            "set role postgres",
            "",
        )
    ),
    ("supabase", BOTH, "execute_sql", {"project_id": REF}, "supabase-reading"),
    ("supabase", BOTH, "execute_sql", {**sql("select 1"), "dry": True}, "supabase-reading"),
    (
        "supabase",
        BOTH,
        "execute_sql",
        {"project_id": REF, "query": ["select 1"]},
        "supabase-reading",
    ),
    (
        "supabase",
        BOTH,
        "apply_migration",
        {**sql("create table a (b int)"), "name": "a"},
        "supabase-migrations",
    ),
    ("supabase", BOTH, "delete_branch", {"branch_id": "b"}, "supabase-projects"),
    ("supabase", BOTH, "pause_project", {"project_id": REF}, "supabase-projects"),
    ("supabase", BOTH, "merge_branch", {"branch_id": "b"}, "supabase-changes"),
    ("supabase", NEWEST, "query_logs", {"project_id": REF, "sql": "select 1 from logs"}, ""),
    #
    ("playwright", BOTH, "browser_navigate", {"url": SHOP}, ""),
    ("playwright", BOTH, "browser_navigate", {"url": "http://shop.example/a?b=c#d"}, ""),
    *(
        ("playwright", BOTH, "browser_navigate", {"url": url}, "playwright-addresses")
        for url in (
            "http://127.0.0.1/",
            "http://127.0.0.1@evil.example/",
            "http://evil.example@127.0.0.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[64:ff9b::7f00:1]/",
            "http://[2002:7f00:1::]/",
            "http://169.254.169.254/latest/meta-data/",
            "http://10.0.0.1/",
            "http://localhost/",
            "http://db.internal/",
            "http://127.0.0.1.nip.io/",
            "https://shop.example:8443/",
            "https://sh\u043ep.example/",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "data:text/html,x",
            "about:blank",
            "view-source:https://shop.example/",
            "shop.example",
            "",
        )
    ),
    ("playwright", BOTH, "browser_navigate", {}, "playwright-addresses"),
    ("playwright", NEWEST, "browser_tabs", {"action": "list"}, ""),
    ("playwright", NEWEST, "browser_tabs", {"action": "new", "url": SHOP}, ""),
    (
        "playwright",
        NEWEST,
        "browser_tabs",
        {"action": "new", "url": "http://127.0.0.1/"},
        "playwright-tabs",
    ),
    ("playwright", ("matching",), "browser_tab_new", {}, ""),
    (
        "playwright",
        ("matching",),
        "browser_tab_new",
        {"url": "http://[::ffff:7f00:1]/"},
        "playwright-tabs",
    ),
    ("playwright", BOTH, "browser_evaluate", {"function": "() => 1"}, "playwright-code"),
    ("playwright", NEWEST, "browser_run_code_unsafe", {"code": "1"}, "playwright-code"),
    ("playwright", ("matching",), "browser_install", {}, "playwright-code"),
    ("playwright", BOTH, "browser_file_upload", {"paths": ["/etc/passwd"]}, "playwright-files"),
    ("playwright", NEWEST, "browser_drop", {"target": "e1", "paths": ["/a"]}, "playwright-files"),
    ("playwright", BOTH, "browser_snapshot", {}, ""),
    ("playwright", NEWEST, "browser_snapshot", {"filename": "x.md"}, "playwright-answers"),
    ("playwright", NEWEST, "browser_find", {"text": "x"}, ""),
    ("playwright", BOTH, "browser_console_messages", {"level": "info"}, ""),
    ("playwright", NEWEST, "browser_network_request", {"index": 1, "part": "response-body"}, ""),
    ("playwright", BOTH, "browser_take_screenshot", {"fullPage": True}, ""),
    ("playwright", BOTH, "browser_take_screenshot", {"type": "png", "filename": "a.png"}, ""),
    *(
        ("playwright", BOTH, "browser_take_screenshot", {"filename": name}, "playwright-names")
        for name in ("/tmp/a.png", "../a.png", "a/b.png", "a\\b.png", ".bashrc", "", ["a.png"])
    ),
    ("playwright", NEWEST, "browser_click", {"target": "e1"}, ""),
    ("playwright", ("matching",), "browser_click", {"element": "x", "ref": "e1"}, ""),
    #
    ("firecrawl", BOTH, "firecrawl_scrape", {"url": SHOP, "formats": ["markdown"]}, ""),
    ("firecrawl", BOTH, "firecrawl_scrape", {"url": "http://10.0.0.1/"}, "firecrawl-pages"),
    ("firecrawl", BOTH, "firecrawl_scrape", {"url": SHOP, "actions": []}, "firecrawl-pages"),
    (
        "firecrawl",
        BOTH,
        "firecrawl_scrape",
        {"url": SHOP, "skipTlsVerification": True},
        "firecrawl-pages",
    ),
    ("firecrawl", NEWEST, "firecrawl_scrape", {"alexandria": {}}, "firecrawl-pages"),
    ("firecrawl", BOTH, "firecrawl_map", {"url": SHOP}, ""),
    ("firecrawl", BOTH, "firecrawl_map", {"url": "http://localhost/"}, "firecrawl-maps"),
    ("firecrawl", BOTH, "firecrawl_map", {"url": SHOP, "limit": 9999}, "firecrawl-maps"),
    ("firecrawl", BOTH, "firecrawl_crawl", {"url": SHOP, "limit": 10}, ""),
    ("firecrawl", NEWEST, "firecrawl_crawl", {"url": SHOP, "limit": 9, "maxDiscoveryDepth": 2}, ""),
    ("firecrawl", ("matching",), "firecrawl_crawl", {"url": SHOP, "limit": 9, "maxDepth": 2}, ""),
    *(
        (
            "firecrawl",
            BOTH,
            "firecrawl_crawl",
            {"url": SHOP, "limit": 10, **more},
            "firecrawl-crawls",
        )
        for more in (
            {"limit": 101},
            {"limit": 0},
            {"limit": "10"},
            {"url": "http://[::1]/"},
            {"allowExternalLinks": True},
            {"webhook": "https://evil.example/"},
            {"scrapeOptions": {"actions": [{"type": "executeJavascript"}]}},
            {"scrapeOptions": {"waitFor": 10**9}},
        )
    ),
    ("firecrawl", BOTH, "firecrawl_crawl", {"url": SHOP}, "firecrawl-crawls"),
    (
        "firecrawl",
        BOTH,
        "firecrawl_crawl",
        {"url": SHOP, "limit": 9, "scrapeOptions": {"formats": ["markdown"]}},
        "",
    ),
    ("firecrawl", BOTH, "firecrawl_search", {"query": "lamp"}, ""),
    ("firecrawl", BOTH, "firecrawl_search", {"query": "lamp", "limit": 50}, "firecrawl-searches"),
    ("firecrawl", BOTH, "firecrawl_search", {"query": "x" * 501}, "firecrawl-searches"),
    ("firecrawl", BOTH, "firecrawl_extract", {"urls": [f"{SHOP}*"], "prompt": "costs"}, ""),
    (
        "firecrawl",
        BOTH,
        "firecrawl_extract",
        {"urls": [SHOP, "http://192.168.0.1/"]},
        "firecrawl-extracts",
    ),
    (
        "firecrawl",
        BOTH,
        "firecrawl_extract",
        {"urls": [SHOP], "enableWebSearch": True},
        "firecrawl-extracts",
    ),
    ("firecrawl", NEWEST, "firecrawl_agent", {"prompt": "x"}, "firecrawl-agents"),
    ("firecrawl", NEWEST, "firecrawl_interact", {"code": "1"}, "firecrawl-agents"),
    ("firecrawl", NEWEST, "firecrawl_parse", {"filePath": "/etc/passwd"}, "firecrawl-files"),
    ("firecrawl", ("matching",), "firecrawl_deep_research", {"query": "x"}, "firecrawl-agents"),
    #
    ("context7", NEWEST, "resolve-library-id", {"libraryName": "starlette", "query": "how"}, ""),
    ("context7", ("matching",), "resolve-library-id", {"libraryName": "starlette"}, ""),
    (
        "context7",
        BOTH,
        "resolve-library-id",
        {"libraryName": "starlette", "query": "x" * 501},
        "context7-names",
    ),
    ("context7", NEWEST, "query-docs", {"libraryId": "/encode/starlette", "query": "x"}, ""),
    (
        "context7",
        NEWEST,
        "query-docs",
        {"libraryId": "/encode/starlette?x=1", "query": "x"},
        "context7-documents",
    ),
    (
        "context7",
        ("matching",),
        "get-library-docs",
        {"context7CompatibleLibraryID": "/encode/starlette", "topic": "routing", "page": 2},
        "",
    ),
    (
        "context7",
        ("matching",),
        "get-library-docs",
        {"context7CompatibleLibraryID": "/encode/starlette", "topic": "x" * 201},
        "context7-topics",
    ),
    #
    *(
        ("filesystem", NEWEST, "read_text_file", path(text), "")
        for text in ("/srv/project/a.txt", "a.b/c..d", "C:\\project\\a.txt", "/", "a//b/")
    ),
    *(
        ("filesystem", NEWEST, "read_text_file", path(text), "filesystem-paths")
        for text in (
            "/srv/.env",
            ".env",
            "/srv/project/.git/config",
            "/srv/../etc/passwd",
            "a/./b",
            "a\\.env",
            "~/x",
            "C:\\project\\.ssh",
            "",
        )
    ),
    ("filesystem", NEWEST, "read_text_file", {**path("/srv/a"), "head": 3}, ""),
    ("filesystem", NEWEST, "read_multiple_files", {"paths": ["/srv/a", "/srv/b"]}, ""),
    (
        "filesystem",
        NEWEST,
        "read_multiple_files",
        {"paths": ["/srv/a", "/srv/.env"]},
        "filesystem-several",
    ),
    ("filesystem", NEWEST, "write_file", {**path("/srv/a"), "content": ""}, "filesystem-writing"),
    ("filesystem", NEWEST, "write_file", {**path("/srv/.a"), "content": ""}, "filesystem-paths"),
    (
        "filesystem",
        NEWEST,
        "move_file",
        {"source": "/srv/a", "destination": "/srv/.b"},
        "filesystem-moves",
    ),
    (
        "filesystem",
        NEWEST,
        "move_file",
        {"source": "/srv/a", "destination": "/srv/b"},
        "filesystem-writing",
    ),
    ("filesystem", NEWEST, "list_allowed_directories", {}, ""),
    #
    ("git", NEWEST, "git_status", {"repo_path": "/srv"}, ""),
    ("git", NEWEST, "git_diff", {"repo_path": "/srv", "target": "main"}, ""),
    ("git", NEWEST, "git_diff", {"repo_path": "/srv", "target": "HEAD~3..v1.0"}, ""),
    (
        "git",
        NEWEST,
        "git_diff",
        {"repo_path": "/srv", "target": "--output=/srv/x"},
        "git-differences",
    ),
    ("git", NEWEST, "git_show", {"repo_path": "/srv", "revision": "HEAD^{}"}, ""),
    ("git", NEWEST, "git_show", {"repo_path": "/srv", "revision": "-p"}, "git-revisions"),
    ("git", NEWEST, "git_log", {"repo_path": "/srv", "start_timestamp": None}, ""),
    (
        "git",
        NEWEST,
        "git_log",
        {"repo_path": "/srv", "start_timestamp": "--output=x"},
        "git-log",
    ),
    ("git", NEWEST, "git_branch", {"repo_path": "/srv", "branch_type": "local"}, ""),
    (
        "git",
        NEWEST,
        "git_branch",
        {"repo_path": "/srv", "branch_type": "local", "contains": "-d"},
        "git-branches",
    ),
    ("git", NEWEST, "git_commit", {"repo_path": "/srv", "message": "m"}, "git-changes"),
    ("git", NEWEST, "git_checkout", {"repo_path": "/srv", "branch_name": "main"}, "git-changes"),
    ("git", NEWEST, "git_checkout", {"repo_path": "/srv", "branch_name": "-f"}, "git-switching"),
    (
        "git",
        NEWEST,
        "git_create_branch",
        {"repo_path": "/srv", "branch_name": "b", "base_branch": "-f"},
        "git-branching",
    ),
    (
        "git",
        NEWEST,
        "git_create_branch",
        {"repo_path": "/srv", "branch_name": "b"},
        "git-changes",
    ),
    ("git", NEWEST, "git_reset", {"repo_path": "/srv"}, "git-losses"),
]


@pytest.mark.parametrize(
    ("upstream", "generation", "tool", "arguments", "refused_by"),
    [
        (upstream, generation, tool, arguments, rule)
        for upstream, generations, tool, arguments, rule in CALLS
        for generation in generations
        if tool in recorded(upstream)[generation]
    ],
)
def test_calls_are_decided(
    snapshot: Snapshot,
    upstream: str,
    generation: str,
    tool: str,
    arguments: dict[str, Any],
    refused_by: str,
) -> None:
    decision = decided(snapshot, upstream, generation, tool, arguments)
    assert (decision.effect == "allow") == (not refused_by), decision
    if refused_by:
        assert (decision.rule, decision.file) == (refused_by, f"pack:{upstream}"), decision


def test_every_call_of_the_table_is_of_a_tool_that_is_recorded() -> None:
    for upstream, generations, tool, _, _ in CALLS:
        assert any(tool in recorded(upstream)[generation] for generation in generations), tool


def test_nothing_but_reading_is_left_of_supabase(snapshot: Snapshot) -> None:
    reading = ("execute_sql", "generate_typescript_types", "query_logs", "search_docs")
    for generation, tools in recorded("supabase").items():
        for tool in tools:
            decision = decided(snapshot, "supabase", generation, tool, sql("select 1"))
            reads = tool in reading or tool.startswith(("get_", "list_"))
            assert (decision.effect == "allow") == reads, (generation, tool)


def test_crawls_are_limited(snapshot: Snapshot) -> None:
    decision = decided(
        snapshot, "firecrawl", "newest", "firecrawl_crawl", {"url": SHOP, "limit": 10}
    )
    assert [(each.limit.amount, each.limit.period_s) for each in decision.reservations] == [
        (10, 3_600),
        (50, 86_400),
        (2, 0),
    ]
    other = decided(snapshot, "firecrawl", "newest", "firecrawl_map", {"url": SHOP})
    assert other.reservations == ()


def test_every_rule_is_about_a_tool_that_some_server_offers(snapshot: Snapshot) -> None:
    offered = {
        f"mcp__{upstream}__{tool}"
        for upstream in PACKS
        for tools in recorded(upstream).values()
        for tool in tools
    }
    for rule in snapshot.rules.rules:
        assert any(matches(each, tool) for each in rule.tools for tool in offered), rule.name


@pytest.mark.parametrize("upstream", PACKS)
def test_no_rule_is_hollow_for_a_real_tool(snapshot: Snapshot, upstream: str) -> None:
    for generation, tools in recorded(upstream).items():
        for tool in tools:
            decision = decided(snapshot, upstream, generation, tool, {})
            assert "does not take" not in decision.reason, (generation, tool)


@pytest.mark.parametrize("upstream", PACKS)
def test_a_pack_is_about_its_own_upstream_only(snapshot: Snapshot, upstream: str) -> None:
    rules = [rule for rule in snapshot.rules.rules if rule.file == f"pack:{upstream}"]
    assert rules
    for rule in rules:
        assert rule.name.startswith(f"{upstream}-")
        assert all(tool.startswith(f"mcp__{upstream}__") for tool in rule.tools)


_COUNT = """
from pathlib import Path
import gateway
from gateway.config.load import load
rules = load(None, cwd=Path.cwd(), trusted=True).settings.policies
print(len(rules), gateway.__file__)
"""


def test_a_wheel_brings_the_packs(snapshot: Snapshot, tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    assert sorted(each.stem for each in (installed / "gateway/packs").iterdir()) == list(PACKS)
    upstreams = "".join(f"  {pack}: {{command: none}}\n" for pack in PACKS)
    packs = ", ".join(f"pack:{pack}" for pack in PACKS)
    (tmp_path / "gateway.yaml").write_text(f"policies: [{packs}]\nupstreams:\n{upstreams}")
    told = subprocess.run(
        [sys.executable, "-c", _COUNT],
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    count, loaded_from = told.stdout.split()
    assert Path(loaded_from).is_relative_to(installed)
    assert int(count) == len(snapshot.rules.rules)
