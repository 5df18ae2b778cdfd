"""Gateways that copy their journals to a real server, and what happens to the two of them."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.journal import Journal
from tests.audit.samples import decision
from tests.e2e.http import HttpClient
from tests.e2e.inbox import PATIENCE_S, Inbox, text_of
from tests.e2e.world import World, processes_naming
from tests.real.store import PASSWORD, Store, journal_lines, store_of

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def shared() -> Iterator[Store]:
    with store_of() as store:
        yield store


@pytest.fixture
def project(tmp_path: Path, shared: Store) -> World:
    """A project whose log is copied to the store."""
    return project_of(tmp_path, shared)


def project_of(root: Path, store: Store, **audit: Any) -> World:
    world = World(root)
    world.canary()
    world.usual_agent()
    world.settings["audit"] = {"directory": str(root / "audit"), "store": "${STORE}", **audit}
    world.env["STORE"] = store.gateway.url
    return world


def is_copied(world: World, store: Store) -> bool:
    """Whether the store has the very lines of the journals here."""
    lines = journal_lines(world.root / "audit")
    kept = store.lines()
    return bool(lines) and all(kept.get(writer) == lines[writer] for writer in lines)


def wait_until_copied(world: World, store: Store) -> None:
    world.wait_for(lambda: is_copied(world, store))


@contextmanager
def calling(client: Inbox) -> Iterator[Callable[[], int]]:
    """Calls one after the other all the while; how many were answered."""
    stop = threading.Event()
    answered: list[str] = []

    def call() -> None:
        while not stop.is_set():
            answered.append(text_of(client.call("echo", {"text": "x"})))
            client.forget()

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(call)
        try:
            yield lambda: len(answered)
        finally:
            stop.set()
            done.result(30)


def events(world: World) -> list[str]:
    return [record["event"] for record in world.records(kind="event")]


def test_a_log_is_in_the_store_while_the_gateway_runs_and_whole_when_it_has_ended(
    project: World, shared: Store
) -> None:
    with project.connect() as client:
        client.open()
        assert text_of(client.call("echo", {"text": "x"})) == "x"
        project.wait_for(lambda: "store.connected" in events(project))
        wait_until_copied(project, shared)
    assert is_copied(project, shared)
    assert project.events("journal.closed")
    shown = project.gateway("audit", "ship")
    assert (shown.returncode, shown.stdout.split(";")[0]) == (0, "Copied 0 records of 0 journals")


def test_a_server_that_stops_and_comes_back_loses_and_doubles_nothing(
    project: World, shared: Store
) -> None:
    with project.connect() as client:
        client.open()
        project.wait_for(lambda: "store.connected" in events(project))
        with calling(client) as answered:
            for number in range(2):
                before = answered()
                project.wait_for(lambda before=before: answered() > before + 20)
                shared.postgres.halt()
                away = answered()
                project.wait_for(lambda away=away: answered() > away + 20)
                if number:  # once so long that the gateway notices, once perhaps not
                    project.wait_for(lambda: "store.unavailable" in events(project))
                shared.postgres.resume()
        wait_until_copied(project, shared)
        client.call("echo")
    assert is_copied(project, shared)


def test_a_server_that_does_not_answer_slows_no_call(project: World, shared: Store) -> None:
    with project.connect() as client:
        client.open()
        project.wait_for(lambda: "store.connected" in events(project))
        shared.postgres.freeze(True)
        try:
            with calling(client) as answered:
                project.wait_for(lambda: answered() > 100)
        finally:
            shared.postgres.freeze(False)
        wait_until_copied(project, shared)


def test_a_gateway_ends_though_the_server_does_not_answer(project: World, shared: Store) -> None:
    with project.connect() as client:
        client.open()
        project.wait_for(lambda: "store.connected" in events(project))
        shared.postgres.freeze(True)
        try:
            client.call("echo")
            assert client.close() == 0
        finally:
            shared.postgres.freeze(False)
    assert project.gateway("audit", "ship").returncode == 0
    assert is_copied(project, shared)


def test_what_a_killed_gateway_left_is_copied_by_the_next_one(
    project: World, shared: Store
) -> None:
    for _ in range(3):
        with project.connect() as client:
            client.open()
            with calling(client) as answered:
                project.wait_for(lambda: answered() > 50)
            client.process.kill()
            client.process.wait()
    (project.root / "audit" / "copied.json").unlink(missing_ok=True)
    with project.connect() as client:
        client.open()
        wait_until_copied(project, shared)
    assert len(journal_lines(project.root / "audit")) == 4


def test_many_gateways_at_once_on_one_machine(project: World, shared: Store) -> None:
    # Fewer connections than gateways: they wait for their turn.
    with shared.postgres.connect() as connection:
        connection.execute("ALTER ROLE one CONNECTION LIMIT 3")
    try:

        def run(_: int) -> None:
            with project.connect() as client:
                client.open()
                for _ in range(10):
                    client.call("echo")

        project.write()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(run, range(8)))
    finally:
        with shared.postgres.connect() as connection:
            connection.execute("ALTER ROLE one CONNECTION LIMIT -1")
    assert project.gateway("audit", "ship").returncode == 0
    assert is_copied(project, shared)
    assert len(journal_lines(project.root / "audit")) == 8


def call_until_refused(client: Inbox) -> None:
    deadline = time.monotonic() + PATIENCE_S  # on an idle machine a second has thousands of calls
    while time.monotonic() < deadline:
        answer = client.call("echo", {"text": "x" * 100})
        client.forget()
        if "error" in answer:
            assert answer["error"]["code"] == 503
            return
    raise AssertionError("the spool never filled up")


@pytest.mark.parametrize("bound", [{"max_bytes": 1024 * 1024}, {"max_age_s": 1.5}], ids=str)
def test_a_full_spool_stops_calls_until_the_server_is_back(
    tmp_path: Path, shared: Store, bound: dict[str, Any]
) -> None:
    world = project_of(tmp_path, shared, spool=bound)
    shared.postgres.halt()
    halted = True
    try:
        with world.serve() as served, HttpClient(served.url()) as client:
            client.open()
            assert client.request("GET", f"{served.base}/readyz").status_code == 200
            call_until_refused(client)
            reached = len(world.calls())
            ready = client.request("GET", f"{served.base}/readyz")
            assert ready.status_code == 503
            assert "the audit store is away for too long" in ready.json()["reason"]
            for tool in ("echo", "hidden", "echo"):
                assert client.call(tool)["error"]["code"] == 503
            assert len(world.calls()) == reached == len(world.decisions(decision="allow"))
            shared.postgres.resume()
            halted = False
            url = f"{served.base}/readyz"
            world.wait_for(lambda: client.request("GET", url).status_code == 200)
            assert text_of(client.call("echo", {"text": "back"})) == "back"
        assert is_copied(world, shared)
    finally:
        if halted:
            shared.postgres.resume()
    (full,) = world.events("store.spool_full")
    (free,) = world.events("store.spool_free")
    assert full["data"]["reason"]
    assert free["data"]["refused"] >= 4


def test_the_bound_holds_while_the_server_does_not_answer(tmp_path: Path, shared: Store) -> None:
    world = project_of(tmp_path, shared, spool={"max_age_s": 1.5})
    with world.connect() as client:
        client.open()
        world.wait_for(lambda: "store.connected" in events(world))
        shared.postgres.freeze(True)
        try:
            call_until_refused(client)
            reached = len(world.calls())
            assert client.call("echo")["error"]["code"] == 503
            assert len(world.calls()) == reached
        finally:
            shared.postgres.freeze(False)
        world.wait_for(lambda: "result" in client.call("echo"))
    assert is_copied(world, shared)


def test_what_waits_from_earlier_runs_counts(tmp_path: Path, shared: Store) -> None:
    world = project_of(tmp_path, shared, spool={"max_bytes": 1024 * 1024})
    journal = Journal.open(tmp_path / "audit", durability="process")
    for _ in range(3000):
        journal.append(decision())
    journal.close()
    world.env["STORE"] = f"{shared.gateway.url}&connect_timeout=2".replace("/audit?", "/nowhere?")
    with world.connect() as client:
        client.open()
        assert client.call("echo")["error"]["code"] == 503
    assert world.calls() == []
    world.env["STORE"] = shared.gateway.url
    with world.connect() as client:
        client.open()
        world.wait_for(lambda: "result" in client.call("echo"))
    # The next run knows what was copied, also while it cannot ask.
    world.env["STORE"] = shared.gateway.url.replace("/audit?", "/nowhere?")
    with world.connect() as client:
        client.open()
        assert text_of(client.call("echo", {"text": "x"})) == "x"


def test_a_wrong_password_is_told_without_it(project: World, shared: Store) -> None:
    wrong = f"{PASSWORD}-wrong"
    project.env["STORE"] = shared.address("one", wrong).url
    with project.connect() as client:
        client.open()
        project.wait_for(lambda: project.events("store.unavailable"))
        assert text_of(client.call("echo", {"text": "x"})) == "x"
        (process,) = [pid for pid in processes_naming(wrong) if pid == client.process.pid]
        assert wrong not in Path(f"/proc/{process}/cmdline").read_text()
        project.wait_for(lambda: "password authentication failed" in client.stderr)
        assert wrong not in client.stderr
    for path in project.root.rglob("*"):
        assert not path.is_file() or wrong.encode() not in path.read_bytes()
    shipped = project.gateway("audit", "ship")
    assert shipped.returncode == 2
    assert "password authentication failed" in shipped.stderr
    assert wrong not in shipped.stderr + shipped.stdout


def test_a_journal_that_was_changed_raises_an_alarm(project: World, shared: Store) -> None:
    with project.connect() as client:
        client.open()
        client.call("echo")
        wait_until_copied(project, shared)
    (path,) = (project.root / "audit" / "journal").iterdir()
    path.write_bytes(path.read_bytes().replace(b'"journal.closed"', b'"journal.opened, again"'))
    (project.root / "audit" / "copied.json").unlink()
    with project.connect() as client:
        client.open()
        project.wait_for(lambda: project.events("store.refused"))
        (alarm,) = project.events("store.refused")
        assert alarm["data"]["writer"] == path.stem
        project.wait_for(lambda: "does not take a journal" in client.stderr)
        assert text_of(client.call("echo", {"text": "x"})) == "x"
    shipped = project.gateway("audit", "ship")
    assert shipped.returncode == 1
    assert f"{path.stem}: not copied:" in shipped.stdout


def test_the_doctor_tries_the_store(project: World, shared: Store) -> None:
    project.accepting = True
    good = project.gateway("doctor")
    assert "the audit store takes records" in good.stdout
    project.env["STORE"] = shared.reader.url
    bad = project.gateway("doctor")
    assert bad.returncode == 2
    assert "the role may not append; grant it gateway_audit_writer" in bad.stdout
    assert "audit store" not in project.gateway("doctor", "--offline").stdout


def test_readyz_warns_while_the_store_is_away(project: World, shared: Store) -> None:
    project.env["STORE"] = shared.address("one", "wrong").url
    with project.serve() as served, HttpClient(served.url()) as client:
        client.open()
        url = f"{served.base}/readyz"
        project.wait_for(lambda: "warning" in client.request("GET", url).json())
        ready = client.request("GET", url)
        assert ready.status_code == 200
        assert "password authentication failed" in ready.json()["warning"]


def test_a_variable_that_is_not_set_is_told_at_the_start(project: World) -> None:
    del project.env["STORE"]
    for command in ("connect", "serve"):
        more = ("canary",) if command == "connect" else ("--port", "0")
        done = project.gateway(command, *more)
        assert done.returncode == 2
        assert "the environment variable STORE is not set" in done.stderr
        assert "gateway.yaml" in done.stderr


def test_the_commands_make_the_schema_and_name_the_store_by_reference(tmp_path: Path) -> None:
    with store_of() as store, store.postgres.connect() as connection:
        connection.execute("CREATE DATABASE other OWNER auditor")
        world = project_of(tmp_path, store)
        other = store.owner.url.replace("/audit?", "/other?")
        world.env["OWNER"] = other
        secret = tmp_path / "url"
        secret.write_text(other)
        secret.chmod(0o600)
        Journal.open(tmp_path / "audit", durability="process").close()
        unmade = world.gateway("audit", "ship", "--store", "${OWNER}")
        assert unmade.returncode == 2
        assert "run `gateway audit migrate`" in unmade.stderr
        made = world.gateway("audit", "migrate", "--store", "${OWNER}")
        assert (made.returncode, made.stdout, made.stderr) == (0, "Made the schema, 0001.\n", "")
        again = world.gateway("audit", "migrate", "--store", f"${{file:{secret}}}")
        assert "nothing was changed" in again.stdout
        shipped = world.gateway("audit", "ship", "--store", "${OWNER}")
        assert "Copied 2 records of 1 journals" in shipped.stdout
        verified = world.gateway("audit", "verify", "--store", "${OWNER}")
        assert verified.returncode == 0
        assert "2 records in 1 journal (1 closed)" in verified.stdout
        plain = world.gateway("audit", "ship", "--store", other)
        assert plain.returncode == 2
        assert "holds a password in plain text" in plain.stderr
        assert PASSWORD not in plain.stderr


def test_retention_keeps_what_is_not_copied(project: World, shared: Store) -> None:
    project.write()
    assert project.gateway("audit", "keys", "create").returncode == 0
    with project.connect() as client:
        client.open()
        client.call("echo")
    journals = project.root / "audit" / "journal"
    (first,) = journals.iterdir()
    journal = Journal.open(project.root / "audit", durability="process")
    journal.append(decision())
    journal.close()
    (second,) = set(journals.iterdir()) - {first}
    Journal.open(project.root / "audit", durability="process").close()
    shared.postgres.halt()
    try:
        refused = project.gateway("audit", "prune", "--max-bytes", "1")
        assert refused.returncode == 2
        assert "nothing was deleted, the audit store cannot be asked" in refused.stderr
    finally:
        shared.postgres.resume()
    pruned = project.gateway("audit", "prune", "--max-bytes", "1")
    assert pruned.returncode == 0, pruned.stderr
    assert not first.exists()
    assert second.exists()
