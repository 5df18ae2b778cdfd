"""Which files an agent cannot change through the client's own tools, however it names them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.config.load import load
from gateway.hook.protected import Granting, granting_files, protected_by

Change = Callable[..., str]

CONFIG = """
include: [more/servers.json]
agents_from: [.claude/agents, ~/shared-agents, one/agent.md]
audit: {directory: log}
http: {tokens: tokens}
"""
AGENT = "---\nname: NAME\ndescription: test\ntools: Read\n---\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that reads all that a configuration can; `src` is where nothing is protected."""
    home, root = tmp_path / "home", tmp_path / "project"
    for directory in (root / "more", root / "one", root / ".claude/agents/deep", root / "src"):
        directory.mkdir(parents=True)
    (home / "shared-agents").mkdir(parents=True)
    (home / ".claude").mkdir()
    (home / ".claude/settings.json").write_text("{}")
    (root / "more/servers.json").write_text('{"mcpServers": {}}')
    for name, path in {
        "a": root / ".claude/agents/a.md",
        "b": home / "shared-agents/b.md",
        "c": root / "one/agent.md",
        "linked": tmp_path / "linked.md",
    }.items():
        path.write_text(AGENT.replace("NAME", name))
    (root / ".claude/agents/linked.md").symlink_to(tmp_path / "linked.md")
    (root / "gateway.yaml").write_text(CONFIG)
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "MCP_TOOL_GATEWAY_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return root


@pytest.fixture
def granting(project: Path) -> Granting:
    loaded = load(None, cwd=project, trusted=True)
    return granting_files(loaded, [f"{project}/src/deep"], {"HOME": os.environ["HOME"]})


@pytest.fixture
def change(project: Path, granting: Granting) -> Change:
    """Why the client may not write a file; "" where it may."""

    def changes(path: str, tool: str = "Write", name: str = "file_path") -> str:
        cwd = f"{project}/src"
        return protected_by(tool, {name: path, "content": "x"}, cwd=cwd, granting=granting)

    return changes


@pytest.mark.parametrize(
    "path",
    [
        "../gateway.yaml",
        "../src/../gateway.yaml",
        "..//gateway.yaml",
        "deep/gateway.yaml",
        "gateway.yaml",
        "../gateway.lock",
        "gateway.lock",
        "../.mcp.json",
        ".mcp.json",
        "../more/servers.json",
        "../one/agent.md",
        "../.claude/agents/a.md",
        "../.claude/agents/new.md",
        "../.claude/agents/deep/new.md",
        "../.claude/agents",
        ".claude/agents/new.md",
        "../.github/agents/new.agent.md",
        "../.claude/settings.json",
        "../.claude/settings.local.json",
        ".claude/settings.json",
        "../policies/new.yaml",
        "../log/journal/x.jsonl",
        "../tokens/x.json",
        "~/shared-agents/new.md",
        "~/.claude.json",
        "~/.claude/settings.json",
        "~/.claude/settings.local.json",
        "~/.claude/agents/new.md",
        "~/.local/state/mcp-tool-gateway/trust/x.msgpack",
        "~/.local/state/mcp-tool-gateway/calls/ab/x",
        "~/.config/mcp-tool-gateway/x",
        "~/.cache/mcp-tool-gateway/compiled/x.msgpack",
        "../Gateway.YAML",
        "../.Claude/Agents/new.md",
        "../.claude/SETTINGS.json",
    ],
)
def test_what_grants_is_protected(change: Change, path: str) -> None:
    assert change(path)
    assert change(str(Path(path).expanduser()))


@pytest.mark.parametrize(
    "path",
    [
        "main.py",
        "deep/main.py",
        "../README.md",
        "../src/gateway.yaml.txt",
        "../.claude/notes.md",
        "../.claude/agents.md",
        "../.claude/commands/settings.md",
        "../.github/workflows/ci.yaml",
        "../more/other.json",
        "../one/other.md",
        "../policies.md",
        "~/notes.md",
        "~/.claude/CLAUDE.md",
        "~/.config/other/x",
        "../vendored/gateway.yaml",
    ],
)
def test_what_does_not_is_not(change: Change, path: str) -> None:
    assert change(path) == ""


@pytest.mark.parametrize(
    ("tool", "name"),
    [
        ("Write", "file_path"),
        ("Edit", "file_path"),
        ("MultiEdit", "file_path"),
        ("NotebookEdit", "notebook_path"),
    ],
)
def test_every_tool_that_writes(change: Change, project: Path, tool: str, name: str) -> None:
    path = f"{project}/gateway.yaml"
    assert change(path, tool, name) == path
    assert change("main.py", tool, name) == ""


def test_reading_is_not_writing(change: Change, project: Path) -> None:
    assert change(f"{project}/gateway.yaml", "Read") == ""


@pytest.mark.parametrize("target", [None, 1, "", [], "a\0b"])
def test_a_target_that_cannot_be_told_is_protected(granting: Granting, target: object) -> None:
    assert protected_by("Write", {"file_path": target}, cwd="/", granting=granting)
    assert protected_by("Write", {}, cwd="/", granting=granting)


def test_links_lead_nowhere(change: Change, project: Path, tmp_path: Path) -> None:
    (project / "src/file").symlink_to(project / "gateway.yaml")
    (project / "src/dir").symlink_to(project / ".claude")
    (project / "src/dangling").symlink_to(project / ".claude/agents/new.md")
    (project / "src/circle").symlink_to(project / "src/circle")
    (tmp_path / "other").symlink_to(project)
    for path in (
        *("file", "dir/agents/new.md", "dir/settings.json", "dangling"),
        *(f"{tmp_path}/other/gateway.yaml", f"{tmp_path}/other/.claude/agents/x.md"),
    ):
        assert change(path), path
    assert change("dir/notes.md") == ""


def test_what_a_protected_link_leads_to_is_protected(change: Change, tmp_path: Path) -> None:
    assert change(f"{tmp_path}/linked.md")
    assert change("../.claude/agents/linked.md")


def test_a_hard_link_is_the_same_file(change: Change, project: Path) -> None:
    os.link(project / "gateway.yaml", project / "src/harmless.txt")
    os.link(Path.home() / ".claude/settings.json", project / "src/also.txt")
    assert change("harmless.txt")
    assert change("also.txt")


def test_a_directory_above_that_is_a_link_resolves_before_the_dots(
    change: Change, project: Path
) -> None:
    (project / "src/away").symlink_to(project / ".claude/agents/deep")
    assert change("away/../new.md")


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("gateway trust", "trust"),
        ("cd x && gateway  enforce", "enforce"),
        ("./.venv/bin/gateway uninstall --yes", "uninstall"),
        ("python -m gateway token create dev", "token"),
        ("uvx mcp-tool-gateway init", "init"),
        ("gateway pin --review --yes", "pin"),
        ("sudo gateway --config x.yaml trust", "trust"),
        ("FOO=1 gateway trust", "trust"),
        ("env FOO=1 BAR=2 gateway trust", "trust"),
        ("bash -c 'gateway trust'", "trust"),
        ("echo $(gateway trust)", "trust"),
        ("ls\ngateway trust", "trust"),
        ("gateway approvals approve 0123456789abcdef", "approvals approve"),
        ("gateway console --port 9", "console"),
        ("cd x; gateway approvals  deny 'abcd'", "approvals deny"),
        ("yes | script -qc 'gateway approvals approve abcd'", "approvals approve"),
        ("gateway approvals list", ""),
        ("gateway approvals show abcd", ""),
        ("gateway check", ""),
        ("gateway explain trust", ""),
        ("grep trust docs", ""),
        ("my-gateway trust", ""),
        ("describe the gateway trust model", ""),
        ("gateway trusted", ""),
    ],
)
def test_the_gateways_own_commands_as_far_as_they_can_be_seen(
    granting: Granting, command: str, word: str
) -> None:
    told = protected_by("Bash", {"command": command}, cwd="/", granting=granting)
    assert (f"`gateway {word}`" in told) if word else told == ""


@pytest.mark.parametrize("part", ["\n", "; ", "gateway -a ", "run ", "a=", "/", "'", "env A=1 "])
def test_a_long_command_is_looked_at_in_no_time(granting: Granting, part: str) -> None:
    command = part * 20_000 + "x"
    assert protected_by("Bash", {"command": command}, cwd="/", granting=granting) == ""


@pytest.mark.parametrize("path", [".git", ".git/HEAD", "deep/.git/x", "deep/../.GIT"])
def test_a_repository_that_begins_below_does_not_hide_the_configuration(
    change: Change, path: str
) -> None:
    assert change(path)


def test_the_projects_own_repository_is_not_protected(change: Change) -> None:
    assert change("../.git/info/exclude") == ""
