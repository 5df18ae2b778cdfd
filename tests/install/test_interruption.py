"""An init or an uninstall that is killed at any point is finished or undone by the next one."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.install import disk, planning
from gateway.install.disk import Disk
from tests.install.conftest import Person


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


class Countdown:
    """Lets so many steps on the disk pass, half-does the next one, and is dead from then on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
        self.left = steps
        self.dead = False
        replace = Path.replace

        def dying_replace(path: Path, target: Path) -> Path:
            # The moment between the new content's being on disk and its being in place.
            self.step()
            return replace(path, target)

        monkeypatch.setattr(disk.Path, "replace", dying_replace)
        for name in ("write", "remove", "make_directory", "remove_directory"):
            monkeypatch.setattr(Disk, name, self.dying(getattr(Disk, name)))

    def dying(self, method: object) -> object:
        def wrapped(*arguments: object, **options: object) -> object:
            self.step()
            assert callable(method)
            return method(*arguments, **options)

        return wrapped

    def step(self) -> None:
        if self.left == 0:
            self.dead = True
            raise Killed
        self.left -= 1


def killed_at_every_step(person: Person, command: str, stride: int = 1) -> Iterator[int]:
    """Run `command` again and again from the same state, killed `stride` steps later each time."""
    for steps in range(0, 1000, stride):
        with pytest.MonkeyPatch.context() as patch:
            countdown = Countdown(patch, steps)
            with contextlib.suppress(Killed):
                person.run(command, "--yes")
            if not countdown.dead:
                return
        yield steps
    raise AssertionError("it never ended")


def full(person: Person) -> None:
    """A file of each kind: a secret, a configuration, settings and the servers of two clients."""
    person.write(".mcp.json", {"mcpServers": {"p": {"command": "x", "env": {"A_TOKEN": "sesame"}}}})
    person.write(".cursor/mcp.json", {"mcpServers": {"c": {"command": "y"}}})


def temporary(person: Person) -> list[Path]:
    return list(person.home.parent.rglob("*.gateway-init"))


class TestInit:
    def test_uninstall_undoes_it_wherever_it_was_killed(self, person: Person) -> None:
        full(person)
        before = person.everything()
        steps = []
        for step in killed_at_every_step(person, "init"):
            steps.append(step)
            assert person.run("uninstall", "--yes").code == 0
            assert person.everything() == before
            assert person.installs() == []
            assert temporary(person) == []
        assert len(steps) > 30

    def test_init_finishes_it_wherever_it_was_killed(self, person: Person) -> None:
        full(person)
        before = person.everything()
        assert person.run("init", "--yes").code == 0
        wanted = person.everything()
        person.run("uninstall", "--yes")
        for _ in killed_at_every_step(person, "init"):
            assert person.run("init", "--yes").code == 0
            assert person.everything() == wanted
            assert temporary(person) == []
            assert person.run("uninstall", "--yes").code == 0
            assert person.everything() == before

    def test_what_somebody_changed_meanwhile_is_never_overwritten(self, person: Person) -> None:
        full(person)
        for _ in killed_at_every_step(person, "init", stride=3):
            mine = '{"mcpServers": {"mine": {"command": "mine"}}}'
            person.write(".cursor/mcp.json", mine)
            if person.run("init", "--yes").code == 2:
                assert person.read(".cursor/mcp.json") == mine
            assert person.run("uninstall", "--yes").code in (0, 1)
            assert person.read(".cursor/mcp.json") == mine
            full(person)

    def test_a_second_init_that_is_killed_is_undone_to_the_very_beginning(
        self, person: Person
    ) -> None:
        full(person)
        before = person.everything()
        person.run("init", "--yes", "--client", "claude-code")
        person.run("uninstall", "--yes")
        for steps in range(0, 60, 7):
            assert person.run("init", "--yes", "--client", "claude-code").code == 0
            with pytest.MonkeyPatch.context() as patch:
                Countdown(patch, steps)
                with contextlib.suppress(Killed):
                    person.run("init", "--yes")
            assert person.run("uninstall", "--yes").code == 0
            assert person.everything() == before


class TestUninstall:
    @pytest.mark.parametrize("then", ["uninstall", "init"])
    def test_it_is_finished_wherever_it_was_killed(self, person: Person, then: str) -> None:
        full(person)
        before = person.everything()
        person.run("init", "--yes")
        for _ in killed_at_every_step(person, "uninstall", stride=1 if then == "uninstall" else 3):
            assert person.run(then, "--yes").code == 0
            if then == "init":
                person.run("uninstall", "--yes")
            assert person.everything() == before
            assert person.installs() == []
            person.run("init", "--yes")


class TestRealKill:
    @pytest.mark.skipif(os.name != "posix", reason="kills itself by a signal")
    def test_a_process_that_is_killed_while_it_writes_is_undone(self, person: Person) -> None:
        full(person)
        before = person.everything()
        program = (
            "import os, pathlib, signal\n"
            "replace, count = pathlib.Path.replace, 0\n"
            "def dying(path, target):\n"
            "    global count\n"
            "    count += 1\n"
            f"    if '.mcp.json' in str(target): os.kill(os.getpid(), {int(signal.SIGKILL)})\n"
            "    return replace(path, target)\n"
            "pathlib.Path.replace = dying\n"
            "from gateway.cli import main\n"
            "raise SystemExit(main.run(['init', '--yes']))\n"
        )
        finished = subprocess.run(
            [sys.executable, "-c", program], cwd=person.root, capture_output=True, check=False
        )
        assert finished.returncode == -signal.SIGKILL
        assert person.at("gateway.yaml").exists()
        assert temporary(person) != []
        assert person.run("uninstall", "--yes").code == 0
        assert person.everything() == before
        assert temporary(person) == []


class TestMeanwhile:
    def test_a_file_that_changes_while_a_person_thinks_stops_it_with_nothing_changed(
        self, person: Person, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        full(person)
        mine = '{"mcpServers": {"mine": {"command": "mine"}}}'
        original = planning.Planner.propose

        def slow(planner: planning.Planner) -> planning.Proposal:
            proposal = original(planner)
            person.write(".mcp.json", mine)
            return proposal

        monkeypatch.setattr(planning.Planner, "propose", slow)
        outcome = person.run("init", "--yes")
        assert outcome.code == 2
        assert ".mcp.json: was changed meanwhile; run this again" in outcome.err
        assert person.read(".mcp.json") == mine
        assert not person.at("gateway.yaml").exists()
        assert person.installs() == []


class TestDamage:
    def test_a_damaged_plan_is_told_and_nothing_is_touched(self, person: Person) -> None:
        full(person)
        person.run("init", "--yes")
        (plan,) = (path for path in person.installs() if path.name == "plan.json")
        plan.write_bytes(plan.read_bytes()[:-20])
        after = person.everything()
        for command in ("init", "uninstall"):
            outcome = person.run(command, "--yes")
            assert outcome.code == 2
            assert "plan.json: is damaged" in outcome.err
        assert person.everything() == after

    def test_a_damaged_backup_is_not_written_back(self, person: Person) -> None:
        full(person)
        before = person.read(".mcp.json").encode()
        person.run("init", "--yes")
        (backup,) = (path for path in person.installs() if path.read_bytes() == before)
        backup.write_bytes(b"{}")
        outcome = person.run("uninstall", "--yes")
        assert outcome.code == 2
        assert "is damaged or missing" in outcome.err
        assert "connect" in person.read(".mcp.json")

    def test_two_at_once_do_not_meet(self, person: Person) -> None:
        import fcntl

        full(person)
        person.run("init", "--yes")
        (lock,) = (path for path in person.installs() if path.suffix == ".lock")
        with lock.open() as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            outcome = person.run("uninstall", "--yes")
        assert outcome.code == 2
        assert "is running here" in outcome.err
