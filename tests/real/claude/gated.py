"""A project whose MCP servers stand behind the gateway, as `gateway init` leaves one."""

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from tests.real.claude.canaries import Canary
from tests.real.claude.client import Workspace

GATEWAY = (sys.executable, "-m", "gateway")
HOOK = shlex.join([*GATEWAY, "hook"])


class Gated:
    """The gateway in front of `canaries`; `settings` are the other keys of its configuration."""

    def __init__(
        self, workspace: Workspace, canaries: Mapping[str, Canary], **settings: object
    ) -> None:
        self._workspace = workspace
        configuration = {
            "mode": "enforce",
            "main_thread": "observe",
            "builtin_agents": "observe",
            "native_tools": "off",
            "upstreams": {name: canary.entry for name, canary in canaries.items()},
            **settings,
        }
        self.config = workspace.project / "gateway.yaml"
        self.config.write_text(json.dumps(configuration, indent=2))  # YAML is a superset

    def trust(self) -> None:
        """A person accepts the project's files as they are."""
        gateway(self._workspace, "trust", "--yes")

    def decisions(self, action: str = "tool") -> list[dict[str, Any]]:
        """The calls in the audit log of one kind of action, in their order."""
        listed = gateway(self._workspace, "audit", "list", "--json", "--limit", "5000")
        calls = [json.loads(line) for line in listed.splitlines()]
        return [call for call in calls if call["action"] == action]


def gateway(workspace: Workspace, *arguments: str) -> str:
    """Run a command of the gateway in the project; returns its stdout."""
    done = subprocess.run(
        [*GATEWAY, *arguments],
        cwd=workspace.project,
        env=workspace.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, (done.stderr, done.stdout)
    return done.stdout


def connect(upstream: str, *how: str) -> dict[str, Any]:
    """The entry in `.mcp.json` of an upstream through the gateway."""
    command, *arguments = (*GATEWAY, "connect", upstream, *how)
    return {"command": command, "args": arguments}


def by_use(decisions: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The decisions by the id of the tool use that they are about; each has its own."""
    found = {decision["host"]["tool_use_id"]: decision for decision in decisions}
    assert len(found) == len(decisions)
    return found
