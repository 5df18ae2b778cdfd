"""Claude Code run in a scratch home and project, with no network and no account."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.real.claude.model import Model, marker
from tests.real.installed import claude

EVERY_TOOL = (
    *("mcp__canary", "mcp__canary2", "Agent", "Read", "Write", "Edit", "Bash", "WebFetch"),
    *("ListMcpResourcesTool", "ReadMcpResourceTool"),
)
"""What the client itself need not ask a person for in these tests."""


@dataclass(frozen=True)
class Turn:
    """A finished `claude -p`: its events as they were streamed out."""

    events: Sequence[Mapping[str, Any]]

    @property
    def servers(self) -> dict[str, str]:
        """The MCP servers at the start of the session, and how the client stood with each."""
        [started] = [event for event in self.events if event.get("subtype") == "init"]
        return {server["name"]: server["status"] for server in started["mcp_servers"]}


class Workspace:
    """A home and a project below `root`, and the client run there.

    `environment` is all that the client gets in its environment; it hands it on to its servers
    and hooks.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home, self.project = root / "home", root / "project"
        self.environment = {
            "HOME": str(self.home),
            "XDG_STATE_HOME": str(self.home / "state"),
            "TMPDIR": str(root / "tmp"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "ANTHROPIC_API_KEY": "none",
            "ANTHROPIC_BASE_URL": "http://127.0.0.1:9",  # nobody; without it the network is tried
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_MAX_RETRIES": "0",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_TELEMETRY": "1",
            "ENABLE_TOOL_SEARCH": "false",
            "no_proxy": "127.0.0.1",
        }
        self._hooks: dict[str, list[dict[str, Any]]] = {}
        for directory in (self.home / ".claude", self.project / ".claude", root / "tmp"):
            directory.mkdir(parents=True)

    # What is in it

    def agent(
        self,
        name: str,
        tools: str | None = None,
        *,
        servers: Mapping[str, Any] | None = None,
        everywhere: bool = False,
    ) -> Path:
        """An agent file of the project, or of the user with `everywhere`; returns its path.

        `tools` is the text of its `tools:` line, and None leaves that out; `servers` are inline.
        """
        header = [f"name: {name}", "description: For tests."]
        if tools is not None:
            header.append(f"tools: {tools}")
        if servers is not None:
            header += ["mcpServers:", *(f"  - {json.dumps({n: e})}" for n, e in servers.items())]
        folder = (self.home if everywhere else self.project) / ".claude/agents"
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}.md"
        path.write_text("\n".join(("---", *header, "---", marker(name), "")))
        return path

    def servers(self, entries: Mapping[str, Any]) -> None:
        """The project's MCP servers. `claude -p` starts them without asking anybody."""
        _write_json(self.project / ".mcp.json", {"mcpServers": entries})

    def hook(
        self,
        command: str,
        *,
        matcher: str | None = None,
        timeout_s: int = 30,
        event: str = "PreToolUse",
    ) -> None:
        """One more hook of the project; without a matcher it runs for every tool."""
        entry: dict[str, Any] = {
            "hooks": [{"type": "command", "command": command, "timeout": timeout_s}]
        }
        if matcher is not None:
            entry["matcher"] = matcher
        self._hooks.setdefault(event, []).append(entry)
        self._write_hooks()

    def remove_hooks(self) -> None:
        """The project has no hook any more."""
        self._hooks.clear()
        self._write_hooks()

    def accept_project(self) -> None:
        """What a person does who trusts the folder and approves of its MCP servers."""
        projects = {str(self.project): {"hasTrustDialogAccepted": True}}
        _write_json(self.home / ".claude.json", {"projects": projects})
        approved = {"enableAllProjectMcpServers": True}
        _write_json(self.project / ".claude/settings.local.json", approved)

    # Running

    def turn(
        self,
        model: Model,
        *options: str,
        allowed: Sequence[str] = EVERY_TOOL,
        timeout_s: float = 100,
    ) -> Turn:
        """One prompt, until the model is done with it."""
        output = ("--output-format", "stream-json", "--verbose")
        allowing = ("--allowedTools", ",".join(allowed))
        done = self._run("-p", "Go on.", *output, *allowing, *options, model=model, s=timeout_s)
        assert done.returncode == 0, (done.stderr, done.stdout[-2000:])
        return Turn([json.loads(line) for line in done.stdout.splitlines()])

    def mcp_list(self) -> dict[str, str]:
        """What `claude mcp list` says of each server, its command and how it is.

        That starts those that a person has approved of.
        """
        done = self._run("mcp", "list")
        assert done.returncode == 0, done.stderr
        said = [line.partition(": ") for line in done.stdout.splitlines() if ": " in line]
        return {name: rest for name, _, rest in said}

    def _write_hooks(self) -> None:
        _write_json(self.project / ".claude/settings.json", {"hooks": self._hooks})

    def _run(
        self, *arguments: str, model: Model | None = None, s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        environment = dict(self.environment)
        if model is not None:
            environment["ANTHROPIC_BASE_URL"] = model.url
        return subprocess.run(
            [str(claude()), *arguments],
            cwd=self.project,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=s,
            check=False,
        )


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2))
