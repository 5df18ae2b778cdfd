"""`gateway check --live` on the shipped agent against the real servers, old and new."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.acceptance import accept_in
from tests.real.installed import Generation
from tests.real.rawclient import RawClient
from tests.real.world import World

pytestmark = pytest.mark.real

VANISHED = {
    "mcp__supabase__get_anon_key": "mcp__supabase__get_publishable_keys",
    "mcp__supabase__get_logs": "mcp__supabase__query_logs",
    "mcp__playwright__browser_tab_list": "mcp__playwright__browser_tabs",
    "mcp__playwright__browser_tab_new": "mcp__playwright__browser_tabs",
    "mcp__playwright__browser_tab_select": "mcp__playwright__browser_tabs",
    "mcp__playwright__browser_tab_close": "mcp__playwright__browser_tabs",
    "mcp__playwright__browser_navigate_forward": None,
    "mcp__playwright__browser_install": None,
    "mcp__firecrawl__firecrawl_deep_research": None,
    "mcp__firecrawl__firecrawl_generate_llmstxt": None,
    "mcp__context7__get-library-docs": "mcp__context7__query-docs",
}


def check(
    world: World, directory: Path, generation: Generation, *more: str
) -> subprocess.CompletedProcess[str]:
    config = world.write_config(directory, generation)
    environment = {
        **os.environ,
        **world.environment,
        "XDG_CACHE_HOME": str(directory / "cache"),
        "XDG_STATE_HOME": str(directory / "state"),
    }
    accept_in(environment, config)
    arguments = ["check", "--live", "--config", str(config), *more]
    result = subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.stderr == ""
    written = {entry.name for entry in directory.iterdir()}
    assert written == {"agents", "cache", "gateway.yaml", "state"}
    assert _servers(world) == []
    return result


def _servers(world: World) -> list[psutil.Process]:
    """The running servers of this world, known by the addresses that they were given."""
    at = world.addresses
    marks = (at.supabase_url, at.firecrawl_url, at.context7_url, at.proxy_url, str(at.scratch))
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = [*process.cmdline(), *process.environ().values()]
            if "node" in words[0] and any(mark in word for word in words for mark in marks):
                found.append(process)
    return found


def objects(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_a_server_that_was_left_behind_would_be_found(world: World, tmp_path: Path) -> None:
    entry = world.entry("firecrawl", "newest")
    env = {**entry.env, "HOME": str(tmp_path)}
    with RawClient([entry.command, *entry.args], env=env, cwd=tmp_path):
        assert len(_servers(world)) == 1
    assert _servers(world) == []


def test_the_newest_servers_lack_eleven_declared_tools(world: World, tmp_path: Path) -> None:
    result = check(world, tmp_path, "newest", "--json")
    assert result.returncode == 1
    found = [each for each in objects(result.stdout) if each.get("severity") not in (None, "info")]
    assert {each["tool"]: each["successor"] for each in found} == VANISHED
    assert {each["code"] for each in found} == {"vanished-tool"}
    assert len(found) == len(VANISHED)
    reachable = {
        each["upstream"]: each["reachable"]
        for each in objects(result.stdout)
        if each["kind"] == "reach"
    }
    assert reachable == {"supabase": 26, "playwright": 18, "firecrawl": 6, "context7": 1}


def test_the_matching_servers_offer_everything_that_is_declared(
    world: World, tmp_path: Path
) -> None:
    result = check(world, tmp_path, "matching")
    assert result.returncode == 0
    assert "Nothing to correct." in result.stdout
    rows = [line.split() for line in result.stdout.splitlines() if line.startswith("backend-")]
    assert [(row[1], *row[2:]) for row in rows] == [
        ("supabase", "28", "28", "28"),
        ("playwright", "24", "24", "24"),
        ("firecrawl", "8", "8", "8"),
        ("context7", "2", "2", "2"),
    ]
