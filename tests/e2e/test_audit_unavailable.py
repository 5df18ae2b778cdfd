"""A log that cannot be written stops calls; nothing is forwarded unrecorded."""

import resource
import signal
import subprocess

import pytest

from tests.e2e.http import HttpClient
from tests.e2e.inbox import Inbox, text_of
from tests.e2e.world import World

LIMIT_BYTES = 200_000


def limit_file_size() -> None:
    """Files end at LIMIT_BYTES for this process: a write beyond fails with EFBIG."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, resource.RLIM_INFINITY))


def lift_limit(pid: int) -> None:
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def call_until_refused(client: Inbox, world: World) -> None:
    for _ in range(3000):
        answer = client.call("echo", {"text": "x"})
        if "error" in answer:
            assert answer["error"]["code"] == 503
            assert "audit log" in answer["error"]["message"]
            return
    raise AssertionError("the log never filled up")


def assert_calls_and_records_agree(world: World) -> None:
    assert len(world.calls()) == len(world.decisions(decision="allow"))
    (gap,) = world.events("journal.gap")
    assert gap["data"]["lost"] >= 1


def test_over_stdio(world: World) -> None:
    world.canary()
    world.usual_agent()
    with world.connect(preexec=limit_file_size) as client:
        client.open()
        call_until_refused(client, world)
        reached = len(world.calls())
        for _ in range(5):
            assert client.call("echo")["error"]["code"] == 503
            refused = client.call("hidden")
            assert refused["error"]["code"] == 503
        assert len(world.calls()) == reached
        lift_limit(client.process.pid)
        assert text_of(client.call("echo", {"text": "back"})) == "back"
    assert_calls_and_records_agree(world)


def test_over_http_and_readyz_says_so(world: World) -> None:
    world.canary()
    world.usual_agent()
    with world.serve(preexec=limit_file_size) as served, HttpClient(served.url()) as client:
        client.open()
        assert client.request("GET", f"{served.base}/readyz").status_code == 200
        call_until_refused(client, world)
        reached = len(world.calls())
        not_ready = client.request("GET", f"{served.base}/readyz")
        assert not_ready.status_code == 503
        assert not_ready.json() == {"status": "no", "reason": "the audit log cannot be written"}
        assert client.request("GET", f"{served.base}/healthz").status_code == 200
        assert client.call("echo")["error"]["code"] == 503
        assert len(world.calls()) == reached
        lift_limit(served.process.pid)
        assert text_of(client.call("echo", {"text": "back"})) == "back"
        assert client.request("GET", f"{served.base}/readyz").status_code == 200
    assert_calls_and_records_agree(world)


def test_questions_of_upstreams_are_refused_as_well(world: World) -> None:
    world.canary()
    world.usual_agent()
    with world.connect(preexec=limit_file_size) as client:
        client.open(roots={})
        call_until_refused(client, world)
        client.forget()
        news = b'{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}'
        client.send(news)
        assert client.ask("ping")["result"] == {}
        assert world.received()[-1]["method"] == "tools/call"


@pytest.mark.parametrize("command", ["connect", "serve"])
def test_without_a_log_nothing_starts(world: World, command: str) -> None:
    world.canary()
    world.usual_agent()
    (world.root / "audit").write_text("a file stands where the directory should be")
    target = ["canary"] if command == "connect" else ["--port", "0"]
    done = subprocess.run(
        world.argv(command, *target),
        env=world.env,
        cwd=world.root,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=20,
        check=False,
    )
    assert done.returncode == 2
    assert "audit" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert world.received() == []


def test_records_are_owner_only_and_hold_no_argument_values(world: World) -> None:
    world.canary()
    world.usual_agent()
    secret = "plantedsecretvalue1234567890"
    with world.connect() as client:
        client.open()
        client.call("echo", {"text": secret, "nested": {"deep": [secret]}})
        client.call("hidden", {"text": secret})
    audit = world.root / "audit"
    files = [path for path in audit.rglob("*") if path.is_file()]
    assert files
    for path in [audit, *audit.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path
    assert not any(secret.encode() in path.read_bytes() for path in files)
