"""A home and a project of a person, and `gateway` run in them."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from gateway.cli import main

AGENT = "---\nname: {name}\ndescription: d\ntools: {tools}\n---\nBody.\n"


class Outcome(NamedTuple):
    """What one command came to."""

    code: int
    out: str
    err: str


class Person:
    """Somebody's home directory and one project; `files` are written as given, byte for byte."""

    def __init__(self, base: Path, run: Callable[..., Outcome]) -> None:
        self.home = base / "home"
        self.root = base / "project"
        self.run = run
        self.root.mkdir()
        self.home.mkdir()

    def write(self, path: str, content: str | bytes | dict[str, object]) -> Path:
        """Write a file; a path that begins with ~ is in the home directory."""
        where = self.at(path)
        where.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, dict):
            content = json.dumps(content, indent=2) + "\n"
        where.write_bytes(content.encode() if isinstance(content, str) else content)
        return where

    def at(self, path: str) -> Path:
        return self.home / path[2:] if path.startswith("~/") else self.root / path

    def read(self, path: str) -> str:
        return self.at(path).read_bytes().decode()

    def agent(self, name: str, tools: str, where: str = ".claude/agents") -> None:
        self.write(f"{where}/{name}.md", AGENT.format(name=name, tools=tools))

    def everything(self) -> dict[str, tuple[bytes | str, int]]:
        """Every file, link and directory that is the person's, with content and mode."""
        found: dict[str, tuple[bytes | str, int]] = {}
        for top in (self.home, self.root):
            for path in sorted(top.rglob("*")):
                if any(part in (".cache", ".local") for part in path.parts):
                    continue
                mode = stat.S_IMODE(path.lstat().st_mode)
                content: bytes | str = "directory"
                if path.is_symlink():
                    content = f"-> {path.readlink()}"
                elif path.is_file():
                    content = path.read_bytes()
                found[str(path)] = (content, mode)
        return found

    def installs(self) -> list[Path]:
        """Every file that init keeps for itself."""
        top = self.home / ".local/state/mcp-tool-gateway/installs"
        return sorted(path for path in top.rglob("*") if path.is_file())


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    def run_command(*arguments: str) -> Outcome:
        code = main.run(arguments)
        streams = capfd.readouterr()
        return Outcome(code, streams.out, streams.err)

    return run_command


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Outcome]) -> Person:
    """An empty home and an empty project, which is the current directory."""
    somebody = Person(tmp_path, run)
    for name in [
        name for name in os.environ if name.startswith(("MCP_TOOL_GATEWAY", "XDG_", "CLAUDE_"))
    ]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(somebody.home))
    monkeypatch.chdir(somebody.root)
    return somebody
