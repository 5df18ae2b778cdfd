"""What people ask, asked of the shared store by the commands."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from starlette.testclient import TestClient

from gateway.audit.journal import Journal
from gateway.console import app
from gateway.console.opening import open_log
from tests.audit.samples import decision, outcome
from tests.console.test_app import BASE, PAGES, READER, enter
from tests.console.test_app import World as Console
from tests.e2e.world import World
from tests.real.store import PASSWORD, Store, copy, store_of

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """The log of two machines."""
    with store_of() as store:
        for machine, agent in (("a", "backend"), ("b", "researcher")):
            directory = tmp_path_factory.mktemp(machine)
            journal = Journal.open(directory, durability="process")
            for number in range(5):
                record = decision(agent=agent, decision="allow" if number else "deny")
                journal.append(record)
                if number:
                    journal.append(outcome(record.call))
            journal.close()
            copy(directory, store.gateway)
        yield store


@pytest.fixture
def project(tmp_path: Path, store: Store) -> World:
    """A project whose own log is empty, and that asks the store."""
    world = World(tmp_path)
    world.usual_agent()
    world.settings["default_agent"] = "tester"
    world.settings["audit"] = {"directory": str(tmp_path / "audit"), "read_from": "${READER}"}
    world.env["READER"] = store.reader.url
    return world


def agents(text: str) -> set[str]:
    return {json.loads(line)["agent"] for line in text.splitlines()}


@pytest.mark.parametrize(
    "command",
    [
        ("list", "--json"),
        ("tail", "--json"),
        ("who", "mcp__supabase__execute_sql", "--json"),
        ("refusals", "--json"),
        ("export",),
    ],
    ids=" ".join,
)
def test_the_commands_ask_the_configured_store(project: World, command: tuple[str, ...]) -> None:
    done = project.gateway("audit", *command)
    assert (done.returncode, agents(done.stdout)) == (0, {"backend", "researcher"}), done.stderr


def test_one_call_and_the_numbers_are_told(project: World) -> None:
    listed = project.gateway("audit", "list", "--json", "--agent", "backend")
    call = json.loads(listed.stdout.splitlines()[-1])["call"]
    shown = project.gateway("audit", "show", call, "--json")
    assert shown.returncode == 0, shown.stderr
    assert call in shown.stdout
    for command in ("stats", "upstreams"):
        done = project.gateway("audit", command)
        assert (done.returncode, done.stderr) == (0, "")
        assert "supabase" in done.stdout


def test_checks_ask_the_configured_store(project: World) -> None:
    done = project.gateway("check", "--unused-days", "1", "--json")
    notes = [json.loads(line) for line in done.stdout.splitlines()]
    [young] = [note for note in notes if note.get("code") == "log-too-young"]
    assert "it begins at 20" in young["message"]


def test_a_change_of_policies_is_tried_on_the_calls_in_the_store(
    project: World, tmp_path: Path
) -> None:
    project.agent("backend", ["mcp__supabase__execute_sql"])
    project.upstreams["supabase"] = {"command": "supabase"}
    project.write()
    before = tmp_path / "before"
    shutil.copytree(project.root, before, ignore=shutil.ignore_patterns("before"))
    project.agent("backend", [])
    project.write()
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "policy", "diff", before, ".", "--audit", "--json"],
        env=project.env,
        cwd=project.root,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    changes = [json.loads(line) for line in done.stdout.splitlines()]
    [change] = [each for each in changes if each["kind"] == "call"]
    assert (change["agent"], change["calls"]) == ("backend", 5)


def test_a_directory_that_is_named_goes_before_the_configured_store(
    project: World, tmp_path: Path
) -> None:
    Journal.open(tmp_path / "other", durability="process").close()
    done = project.gateway("audit", "list", "--json", "--directory", str(tmp_path / "other"))
    assert (done.returncode, done.stdout) == (0, "")


def test_the_command_line_names_a_store_by_reference(project: World, store: Store) -> None:
    del project.settings["audit"]["read_from"]
    done = project.gateway("audit", "list", "--json", "--store", "${READER}")
    assert agents(done.stdout) == {"backend", "researcher"}
    refused = project.gateway("audit", "list", "--store", store.reader.url)
    assert refused.returncode == 2
    assert "holds a password in plain text" in refused.stderr
    project.env["READER"] = store.gateway.url
    refused = project.gateway("audit", "list", "--store", "${READER}")
    assert refused.returncode == 2
    assert "grant it gateway_audit_reader" in refused.stderr
    assert PASSWORD not in refused.stderr


def test_following_shows_what_is_copied_meanwhile(
    project: World, store: Store, tmp_path: Path
) -> None:
    argv = project.argv("audit", "tail", "-f", "-n", "0", "--json")
    with subprocess.Popen(
        argv, env=project.env, cwd=project.root, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            told: list[str] = []
            while not told:
                # Again and again, because nothing tells when it has begun to look.
                journal = Journal.open(tmp_path / "late", durability="process")
                record = decision(agent="late")
                journal.append(record)
                journal.append(outcome(record.call))
                journal.close()
                copy(tmp_path / "late", store.gateway)
                project.wait_for(lambda: process.poll() is None)
                told += _lines_within(process, 1.0)
        finally:
            process.kill()
    assert {json.loads(line)["agent"] for line in told} == {"late"}


def _lines_within(process: "subprocess.Popen[str]", timeout_s: float) -> list[str]:
    import select

    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], timeout_s)
    return [process.stdout.readline()] if ready else []


def test_every_page_of_the_console_is_made_from_the_store(tmp_path: Path) -> None:
    world = Console(tmp_path, log="usual")
    with store_of(tmp_path / "audit") as store:
        settings = world.configuration().settings
        audit = msgspec.structs.replace(
            settings.audit, read_from=f"${{file:{owner_only(tmp_path / 'url', store.reader.url)}}}"
        )
        shared = msgspec.structs.replace(settings, audit=audit)
        site = msgspec.structs.replace(
            world.site, directory=None, open_log=lambda: open_log(tmp_path / "nowhere", shared)
        )
        with TestClient(app.build(site, world.access), base_url=BASE) as there:
            here = world.client(READER)
            enter(there, READER)
            for page in PAGES:
                shown = there.get(f"/console{page}")
                assert shown.status_code == 200, page
                if page.startswith(("/refusals", "/upstreams", "/changes", "/matrix")):
                    expected = here.get(f"/console{page}").text
                    assert numbers(shown.text) == numbers(expected), page


def owner_only(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def numbers(page: str) -> list[str]:
    """What the tables of a page say."""
    return re.findall(r"<td[^>]*>(.*?)</td>", page, re.DOTALL)
