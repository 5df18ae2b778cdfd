"""How a gateway ends, gently or not: nothing unrecorded has happened, no process is left."""

import os
import signal
import subprocess
import threading
import time
from collections import Counter

import httpx
import pytest

from gateway.audit.keys import Digester
from gateway.wire.params import encode
from tests.e2e.conftest import Open
from tests.e2e.http import HttpClient
from tests.e2e.inbox import call, initialize_params, request, text_of
from tests.e2e.world import World, is_running, processes_naming, until


def assert_nothing_left(world: World, timeout_s: float = 5.0) -> None:
    until(lambda: not processes_naming(str(world.root)), timeout_s)


def assert_every_call_was_decided(world: World) -> None:
    """Each tool call that a canary saw has an allowing record of its own, of the same arguments."""
    digester = Digester.open(world.root / "audit")
    decided = Counter(record["arguments"]["digest"] for record in world.decisions(decision="allow"))
    seen = Counter(digester.digest(encode(one["params"]["arguments"])) for one in world.calls())
    assert seen
    assert not seen - decided


@pytest.mark.parametrize("ignores", [{}, {"ignore_eof": True}], ids=["usual", "ignores-eof"])
def test_killed_among_two_hundred_calls(world: World, ignores: dict[str, bool]) -> None:
    world.canary(**ignores)
    world.usual_agent()
    for killed_after in (20, 150):
        seen = len(world.calls())
        with world.connect() as client:
            client.open()
            client.call("echo")
            client.send(*(call(number, "hang", {"n": number}) for number in range(200)))
            world.wait_for(lambda target=seen + killed_after: len(world.calls()) > target)
            client.process.kill()
            client.process.wait()
        assert_nothing_left(world)
        assert_every_call_was_decided(world)
    outcomes = {record["call"] for record in world.records(kind="outcome")}
    unknown = [record for record in world.decisions() if record["call"] not in outcomes]
    assert unknown  # a decision without an outcome reads as "outcome unknown"


def test_served_and_killed_among_two_hundred_calls(world: World) -> None:
    world.canary()
    world.usual_agent()
    with world.serve() as served:
        clients = [HttpClient(served.url()) for _ in range(4)]
        for client in clients:
            client.open()
        threads = [
            threading.Thread(target=_call_until_gone, args=(client,), daemon=True)
            for client in clients
        ]
        for thread in threads:
            thread.start()
        world.wait_for(lambda: len(world.calls()) > 100)
        served.process.kill()
        for thread in threads:
            thread.join(10)
        for client in clients:
            client.session = None  # nobody is left to be told
            client.close()
    assert_nothing_left(world)
    assert_every_call_was_decided(world)


def _call_until_gone(client: HttpClient) -> None:
    for number in range(10_000):
        try:
            client.post(call(number, "echo", {"n": number}))
        except httpx.HTTPError:
            return


@pytest.mark.parametrize("ending", ["stdin", "SIGTERM", "SIGINT"])
def test_an_end_takes_the_upstreams_and_their_children_with_it(world: World, ending: str) -> None:
    world.canary(ignore_eof=True, ignore_term=True)
    world.usual_agent()
    with world.connect() as client:
        client.open()
        child = int(text_of(client.call("child")))
        if ending != "stdin":
            client.process.send_signal(getattr(signal, ending))
        started = time.monotonic()
        assert client.close() == 0
        assert time.monotonic() - started < 8
    assert_nothing_left(world, 1)
    assert not is_running(child)


def test_calls_under_way_are_answered_when_the_client_closes_its_end(
    world: World,
) -> None:
    world.canary()
    world.usual_agent()
    with world.connect() as client:
        client.open()
        client.send(call(1, "stall", {"seconds": 0.5}), call(2, "echo", {"text": "x"}))
        assert client.close() == 0
        assert text_of(client.answers(1)[0]) == "back"
        assert text_of(client.answers(2)[0]) == "x"


def test_a_last_line_without_its_end_counts(world: World) -> None:
    world.canary()
    world.usual_agent()
    with world.connect() as client:
        client.open()
        assert client.process.stdin is not None
        client.process.stdin.write(call(1, "echo", {"text": "x"}))
        client.process.stdin.flush()
        client.close()
        assert text_of(client.answers(1)[0]) == "x"


def test_a_client_that_reads_no_more_ends_the_gateway(world: World) -> None:
    world.canary()
    world.usual_agent()
    nobody, output = os.pipe()
    os.close(nobody)
    gateway = subprocess.Popen(
        world.argv("connect", "canary"),
        env=world.env,
        cwd=world.root,
        stdin=subprocess.PIPE,
        stdout=output,
    )
    os.close(output)
    assert gateway.stdin is not None
    with gateway.stdin:
        gateway.stdin.write(request(1, "initialize", initialize_params()) + b"\n")
        gateway.stdin.flush()
        assert gateway.wait(10) == 0
    assert_nothing_left(world, 1)


def test_a_served_gateway_that_is_ended_under_load_leaves_nothing(world: World) -> None:
    world.canary()
    world.usual_agent()
    with world.serve() as served:
        clients = [HttpClient(served.url()) for _ in range(3)]
        for client in clients:
            client.open()
            client.listen()
            client.send(call("h", "hang"))
        threads = [
            threading.Thread(target=_call_until_gone, args=(client,), daemon=True)
            for client in clients
        ]
        for thread in threads:
            thread.start()
        world.wait_for(lambda: len(world.calls()) > 30)
        assert served.stop() == 0
        for thread in threads:
            thread.join(10)
        for client in clients:
            client.session = None  # nobody is left to be told
            client.close()
        assert "Traceback" not in "".join(served.stderr)
    assert_nothing_left(world, 1)
    decided = {record["call"] for record in world.decisions(decision="allow")}
    ended = {record["call"] for record in world.records(kind="outcome")}
    assert decided == ended
    assert len(world.events("session.closed")) == 3
    assert len(world.events("journal.closed")) == 1


def test_a_session_that_ends_takes_its_upstream_with_it(world: World, connect: Open) -> None:
    world.canary()
    world.usual_agent()
    with connect(world) as client:
        client.open()
        client.call("echo")
        if isinstance(client, HttpClient):
            assert client.delete() == 204
            client.session = None
            until(lambda: not processes_naming("canary.py"), 5)
    assert_nothing_left(world, 1)
    assert len(world.events("upstream.stopped")) == 1
