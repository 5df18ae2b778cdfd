"""A project of canaries, and the command line run in it."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from gateway.cli import main
from gateway.config.trust import accept
from gateway.errors import UserError
from tests.e2e.world import World


class Outcome(NamedTuple):
    """What one command came to."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


class Project(World):
    """A world whose canaries offer what a test says."""

    def offers(self, name: str, tools: Sequence[str | dict[str, Any]], **script: Any) -> None:
        """Add the upstream `name` with these tools: definitions, or names alone."""
        definitions = [
            {"name": each, "inputSchema": {}} if isinstance(each, str) else each for each in tools
        ]
        self.canary(name, tools=definitions, **script)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """An empty project that is the current directory; nothing it started may outlive the test."""
    world = Project(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("MCP_TOOL_GATEWAY", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", world.env["HOME"])
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield world
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    assert left == []


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Run:
    """Run one command line as the program does, on what a person has accepted."""

    def run_command(*arguments: str) -> Outcome:
        if "project" in request.fixturenames and request.getfixturevalue("project").accepting:
            # What cannot be loaded, the command itself complains of.
            with contextlib.suppress(UserError):
                accept(_named(arguments), cwd=Path.cwd())
        code = main.run(arguments)
        streams = capfd.readouterr()
        return Outcome(code, streams.out, streams.err)

    return run_command


def _named(arguments: Sequence[str]) -> Path | None:
    """The configuration that a command line names."""
    for option in ("-c", "--config"):
        if option in arguments[:-1]:
            return Path(arguments[arguments.index(option) + 1])
    return None
