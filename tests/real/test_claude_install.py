"""`gateway init` and `gateway uninstall` on a home and a project that Claude Code really uses."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.claude.canaries import Canary
from tests.real.claude.client import Workspace
from tests.real.claude.gated import gateway
from tests.real.claude.model import MAIN, Model, Use, spawn, turns
from tests.real.processes import nothing_left

pytestmark = pytest.mark.real


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with nothing_left():
        yield


class Home:
    """A user's home and project with one server each, in files that people have formatted."""

    def __init__(self, workspace: Workspace) -> None:
        self.of_project = Canary(workspace.root)
        self.of_user = Canary(workspace.root, "canary2")
        self.user_file = workspace.home / ".claude.json"
        user = {
            "numStartups": 7,
            "mcpServers": {"canary2": {"type": "stdio", **self.of_user.entry}},
            "projects": {str(workspace.project): {"hasTrustDialogAccepted": True}},
        }
        self.user_file.write_text(json.dumps(user, indent=1, ensure_ascii=False))
        project = workspace.project
        entry = json.dumps({"canary": self.of_project.entry}, indent=7)
        (project / ".mcp.json").write_bytes(
            f'{{ "note": "h\u00e9llo",\r\n\t"mcpServers":{entry}  }}\r\n\r\n'.encode()
        )
        settings = '{\n      "permissions":{"allow":[]},"enableAllProjectMcpServers":true\n}'
        (project / ".claude/settings.json").write_text(settings)
        workspace.agent("worker", "mcp__canary__echo, mcp__canary2__echo")
        self.files = _files(workspace)

    def contents(self) -> dict[Path, bytes]:
        """The files that were there from the beginning."""
        return {path: path.read_bytes() for path in self.files}

    def user_servers(self) -> Any:
        """The servers of the user's own file, which the client rewrites when it likes."""
        return json.loads(self.user_file.read_text())["mcpServers"]


def _files(workspace: Workspace) -> list[Path]:
    """All files but those of the gateway's own state and cache."""
    found = [path for path in workspace.root.rglob("*") if path.is_file()]
    own = (workspace.home / "state", workspace.home / ".cache")
    return sorted(path for path in found if not any(tree in path.parents for tree in own))


def test_init_and_uninstall_leave_every_file_as_it_was(workspace: Workspace) -> None:
    home = Home(workspace)
    before = home.contents()
    gateway(workspace, "init", "--yes")
    changed = {path.name for path, data in home.contents().items() if data != before[path]}
    assert changed == {".mcp.json", ".claude.json", "settings.json"}
    once = home.contents()
    gateway(workspace, "init", "--yes")
    assert home.contents() == once
    gateway(workspace, "uninstall", "--yes")
    assert home.contents() == before
    assert _files(workspace) == home.files


def test_after_init_every_server_is_connected_through_the_gateway_and_calls_work(
    workspace: Workspace,
) -> None:
    home = Home(workspace)
    before, user_servers = home.contents(), home.user_servers()
    gateway(workspace, "init", "--yes")
    listed = workspace.mcp_list()
    assert listed.keys() == {"canary", "canary2"}
    for said in listed.values():
        assert "gateway" in said
        assert said.endswith("Connected")

    uses = [Use(f"mcp__{name}__echo", {"text": name}) for name in ("canary", "canary2")]
    with Model(turns({MAIN: [[spawn("worker")]], "worker": [uses]})) as model:
        turn = workspace.turn(model)
        assert [result.is_error for result in model.results("worker")] == [False, False]
    # What the client says as the turn begins: on a busy machine a server may still be starting.
    # That both were connected is shown by `mcp list` before, and by their calls in this turn.
    assert turn.servers.keys() == {"canary", "canary2"}
    assert set(turn.servers.values()) <= {"connected", "pending"}
    assert home.of_project.calls == [("echo", {"text": "canary"})]
    assert home.of_user.calls == [("echo", {"text": "canary2"})]
    listing = gateway(workspace, "audit", "list", "--json").splitlines()
    decisions = [decision for decision in map(json.loads, listing) if decision["action"] == "tool"]
    decided = [(d["agent"], d["identified"], d["tool"], d["decision"]) for d in decisions]
    assert sorted(decided) == sorted(("worker", "hook", use.tool, "allow") for use in uses)

    gateway(workspace, "uninstall", "--yes")
    assert home.user_servers() == user_servers
    after = home.contents()
    del before[home.user_file], after[home.user_file]
    assert after == before
    for said in workspace.mcp_list().values():
        assert "gateway" not in said
        assert said.endswith("Connected")
