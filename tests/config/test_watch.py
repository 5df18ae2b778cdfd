"""Reloading: real files change in the ways that files do, and the event loop hears of it."""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.config.load import Loaded, load
from gateway.config.trust import accept
from gateway.config.watch import Reloader

from .conftest import Project

PATIENCE_S = 10.0


class Heard:
    """What a reloader has said, and the reloader itself."""

    def __init__(self, project: Project, *, trusted: bool = True) -> None:
        self.applied: list[Loaded] = []
        self.events: list[tuple[str, str]] = []
        self.thread = threading.get_ident()
        self.loaded = load(None, cwd=project.root, trusted=trusted)
        self.reloader = Reloader(
            None, project.root, trusted, self.loaded, self._apply, self._report
        )

    def _apply(self, loaded: Loaded) -> None:
        assert threading.get_ident() == self.thread
        self.applied.append(loaded)

    def _report(self, event: str, reason: str) -> None:
        assert threading.get_ident() == self.thread
        self.events.append((event, reason))

    @property
    def last(self) -> Loaded:
        return self.applied[-1] if self.applied else self.loaded

    async def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            await asyncio.sleep(0.01)

    async def quiet(self, duration_s: float = 0.6) -> None:
        """Nothing is applied for a while."""
        before = len(self.applied)
        await asyncio.sleep(duration_s)
        assert len(self.applied) == before


@contextlib.asynccontextmanager
async def watching(project: Project, *, trusted: bool = True) -> AsyncIterator[Heard]:
    heard = Heard(project, trusted=trusted)
    heard.reloader.start()
    await heard.quiet(0.1)
    try:
        yield heard
    finally:
        heard.reloader.stop()


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def made(project: Project) -> Project:
    project.config("include: .mcp.json\nupstreams: {web: {command: web}}\n")
    project.write(".mcp.json", '{"mcpServers": {"db": {"command": "db"}}}')
    project.agent("backend", "mcp__web__fetch")
    return project


def replace(path: Path, text: str) -> None:
    """Write as editors do: a new file takes the place of the old one."""
    beside = path.with_name(path.name + "~")
    beside.write_text(text)
    beside.replace(path)


def agents(loaded: Loaded) -> set[str]:
    return {definition.name for definition in loaded.definitions}


CHANGES: dict[str, Callable[[Project], object]] = {
    "configuration": lambda p: p.config("upstreams: {web: {command: other}}\n"),
    "replaced": lambda p: replace(p.root / "gateway.yaml", "upstreams: {x: {command: y}}\n"),
    "include": lambda p: p.write(".mcp.json", '{"mcpServers": {"db": {"command": "other"}}}'),
    "agent": lambda p: p.agent("backend", "mcp__web__other"),
    "new agent": lambda p: p.agent("second", "mcp__web__fetch"),
    "new directory": lambda p: p.write(
        ".claude/agents/team/a.md", "---\nname: a\ndescription: d\ntools: Read\n---\n"
    ),
    "another client's directory": lambda p: p.write(
        ".github/agents/a.agent.md", "---\nname: a\ndescription: d\ntools: [read]\n---\n"
    ),
    "removed agent": lambda p: (p.root / ".claude/agents/backend.md").unlink(),
    "removed directory": lambda p: (p.root / ".claude/agents").rename(p.root / "gone"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_any_change_is_applied_within_a_second(
    made: Project, change: Callable[[Project], object]
) -> None:
    async def scenario() -> None:
        async with watching(made) as heard:
            changed_at = time.monotonic()
            change(made)
            await heard.until(lambda: heard.applied)
            assert time.monotonic() - changed_at < 2.0  # one second, and a busy machine
            assert heard.last.digest == made.load().digest
            assert heard.events == []

    asyncio.run(scenario())


def test_a_file_of_the_same_size_and_time_is_seen_to_be_another(made: Project) -> None:
    async def scenario() -> None:
        path = made.root / ".claude/agents/backend.md"
        status = path.stat()
        async with watching(made) as heard:
            text = path.read_text().replace("fetch", "hctef")
            replace(path, text)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
            await heard.until(lambda: heard.applied)

    asyncio.run(scenario())


def test_a_change_between_loading_and_watching_is_not_lost(made: Project) -> None:
    async def scenario() -> None:
        heard = Heard(made)
        made.agent("second", "mcp__web__fetch")
        heard.reloader.start()
        await heard.until(lambda: heard.applied)
        assert agents(heard.last) == {"backend", "second"}
        heard.reloader.stop()

    asyncio.run(scenario())


def test_many_files_that_change_together_are_loaded_together(made: Project) -> None:
    async def scenario() -> None:
        async with watching(made) as heard:
            for number in range(60):  # a checkout of another branch
                made.agent(f"agent{number}", "mcp__web__fetch")
                if number % 20 == 0:
                    await asyncio.sleep(0.02)
            (made.root / ".claude/agents/backend.md").unlink()
            await heard.until(lambda: len(agents(heard.last)) == 60)
            await heard.quiet()
            assert len(heard.applied) <= 2
            assert "backend" not in agents(heard.last)

    asyncio.run(scenario())


def test_nothing_is_applied_for_what_is_no_change(made: Project) -> None:
    async def scenario() -> None:
        async with watching(made) as heard:
            made.write("README.md", "Nothing of ours.")
            (made.root / "gateway.yaml").touch()
            replace(made.root / "gateway.yaml", (made.root / "gateway.yaml").read_text())
            await heard.quiet(1.0)
            assert heard.events == []

    asyncio.run(scenario())


def test_a_broken_configuration_is_reported_once_and_the_old_one_stays(made: Project) -> None:
    async def scenario() -> None:
        async with watching(made) as heard:
            made.config("upstreams: {web: {comand: web}}\n")
            await heard.until(lambda: heard.events)
            await heard.quiet(3.0)
            [(event, reason)] = heard.events
            assert event == "configuration.refused"
            assert "gateway.yaml:1: " in reason
            assert heard.applied == []
            made.config("upstreams: {web: {command: mended}}\n")
            await heard.until(lambda: heard.applied)
            assert len(heard.events) == 1

    asyncio.run(scenario())


def test_files_that_are_again_what_is_in_force_are_reported_as_such(made: Project) -> None:
    async def scenario() -> None:
        text = (made.root / "gateway.yaml").read_text()
        async with watching(made) as heard:
            made.config("upstreams: {web: {comand: web}}\n")
            await heard.until(lambda: heard.events)
            made.config(text)
            await heard.until(lambda: len(heard.events) == 2)
            assert heard.events[1] == ("configuration.restored", "")
            assert heard.applied == []

    asyncio.run(scenario())


def test_a_broken_agent_file_denies_that_agent(made: Project) -> None:
    async def scenario() -> None:
        async with watching(made) as heard:
            made.write(
                ".claude/agents/backend.md",
                "---\nname: backend\ndescription: d\ntools: [mcp__web\n---\n",
            )
            await heard.until(lambda: heard.applied)
            assert heard.events == []
            backend = heard.last.snapshot.agents.get("backend")
            assert backend is None or backend.refusal is not None

    asyncio.run(scenario())


def test_what_is_accepted_counts_as_a_change(made: Project) -> None:
    async def scenario() -> None:
        async with watching(made, trusted=False) as heard:
            assert heard.loaded.snapshot.upstreams["web"].held
            await asyncio.to_thread(accept, None, cwd=made.root)
            await heard.until(lambda: heard.applied)
            assert heard.last.accepted
            assert not heard.last.snapshot.upstreams["web"].held

    asyncio.run(scenario())


def test_a_file_that_is_included_from_now_on_is_watched(made: Project) -> None:
    async def scenario() -> None:
        more = made.write("more.json", '{"mcpServers": {"one": {"command": "one"}}}')
        async with watching(made) as heard:
            made.config("include: more.json\n")
            await heard.until(lambda: "one" in heard.last.settings.upstreams)
            more.write_text('{"mcpServers": {"two": {"command": "two"}}}')
            await heard.until(lambda: "two" in heard.last.settings.upstreams)

    asyncio.run(scenario())


def test_a_configuration_that_appears_takes_over(project: Project) -> None:
    async def scenario() -> None:
        project.write(".mcp.json", '{"mcpServers": {"db": {"command": "db"}}}')
        project.agent("backend", "mcp__db")
        async with watching(project) as heard:
            project.config("upstreams: {web: {command: web}}\n")
            await heard.until(lambda: list(heard.last.settings.upstreams) == ["web"])

    asyncio.run(scenario())


def test_nothing_is_called_after_it_was_stopped(made: Project) -> None:
    async def scenario() -> None:
        async with watching(made) as heard:
            pass
        made.agent("second", "mcp__web__fetch")
        await heard.quiet(1.0)
        await heard.until(
            lambda: not any(thread.name == "watch" for thread in threading.enumerate())
        )

    asyncio.run(scenario())
