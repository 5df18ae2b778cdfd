"""Killed again and again under load: what reached an upstream is in the log, and the log verifies.

Three rounds a transport by default; `make torture` runs a hundred (TORTURE_ROUNDS).
"""

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
from collections import Counter

import httpx
import pytest

from gateway.audit.keys import Digester
from gateway.wire.params import encode
from tests.e2e.http import HttpClient
from tests.e2e.inbox import PATIENCE_S, call
from tests.e2e.stdio import StdioClient
from tests.e2e.world import World, processes_naming, until

ROUNDS = int(os.environ.get("TORTURE_ROUNDS", "3"))
IN_FLIGHT = 200
MORE = 400
CLIENTS = 8

pytestmark = pytest.mark.timeout(60 + 15 * ROUNDS)


@pytest.fixture
def torn(world: World) -> World:
    """Each line of the canary's log and of the journals tells one call by its arguments."""
    world.canary()
    world.usual_agent()
    return world


@pytest.mark.parametrize("durability", ["process", "power"])
def test_killed_with_two_hundred_calls_in_flight_over_stdio(torn: World, durability: str) -> None:
    torn.settings["audit"] = {"directory": str(torn.root / "audit"), "durability": durability}
    chance = random.Random(1)
    for number in range(ROUNDS):
        arrivals = Arrivals(torn)
        killed_after = chance.randrange(1, IN_FLIGHT + MORE)
        with torn.connect() as client:
            client.open()
            client.call("echo", {"round": number, "first": True})
            hanging = (call(n, "hang", {"round": number, "n": n}) for n in range(IN_FLIGHT))
            quick = (
                call(n, "echo", {"round": number, "n": n})
                for n in range(IN_FLIGHT, IN_FLIGHT + MORE)
            )
            sender = threading.Thread(target=_send, args=(client, [*hanging, *quick]))
            sender.start()
            arrivals.wait_for(killed_after)
            client.process.kill()
            client.process.wait()
            sender.join(10)
        until(lambda: not processes_naming(str(torn.root)), 5)
        assert_evidence_holds(torn)
    assert_outcomes_are_unknown(torn)


def test_killed_with_two_hundred_calls_in_flight_over_http(torn: World) -> None:
    chance = random.Random(2)
    for number in range(ROUNDS):
        arrivals = Arrivals(torn)
        killed_after = IN_FLIGHT + chance.randrange(1, MORE)
        with torn.serve() as served:
            clients = [HttpClient(served.url()) for _ in range(CLIENTS)]
            for client in clients:
                client.open()
            hanging = [
                threading.Thread(target=_call_once, args=(each, number, n), daemon=True)
                for each in clients
                for n in range(IN_FLIGHT // CLIENTS)
            ]
            calling = [
                threading.Thread(target=_call_until_gone, args=(each, number, n), daemon=True)
                for n, each in enumerate(clients)
            ]
            threads = [*hanging, *calling]
            for thread in threads:
                thread.start()
            arrivals.wait_for(killed_after)
            served.process.kill()
            for thread in threads:
                thread.join(10)
            for client in clients:
                client.session = None  # nobody is left to be told
                client.close()
        until(lambda: not processes_naming(str(torn.root)), 5)
        assert_evidence_holds(torn)
    assert_outcomes_are_unknown(torn)


class Arrivals:
    """Counts the calls that reach the canary from now on, without reading what came before."""

    def __init__(self, world: World) -> None:
        self._path = world.root / "canary.received"
        self._offset = self._path.stat().st_size if self._path.exists() else 0

    def wait_for(self, calls: int) -> None:
        until(lambda: self._count() > calls, PATIENCE_S)

    def _count(self) -> int:
        if not self._path.exists():
            return 0
        with self._path.open("rb") as file:
            file.seek(self._offset)
            return file.read().count(b'"tools/call"')


def assert_evidence_holds(world: World) -> None:
    """Canary's calls are among the recorded decisions, and the log verifies.

    `World.records` fails where something that is no whole record was read as one.
    """
    digester = Digester.open(world.root / "audit")
    decided = Counter(record["arguments"]["digest"] for record in world.decisions(decision="allow"))
    seen = Counter(digester.digest(encode(one["params"]["arguments"])) for one in world.calls())
    assert seen
    assert not seen - decided
    verified = verify(world)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def assert_outcomes_are_unknown(world: World) -> None:
    """What was in flight reads as such: its outcome is unknown."""
    lines = world_list(world).stdout.splitlines()
    statuses = Counter(json.loads(line).get("status") for line in lines)
    assert statuses["unknown"] >= ROUNDS
    assert statuses["ok"] >= ROUNDS


def verify(world: World) -> "subprocess.CompletedProcess[str]":
    return _audit(world, "verify")


def world_list(world: World) -> "subprocess.CompletedProcess[str]":
    return _audit(world, "list", "--json", "--limit", "1000000")


def _audit(world: World, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "gateway", "audit", *words, "--directory", world.root / "audit"],
        env=world.env,
        cwd=world.root,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _send(client: StdioClient, frames: list[bytes]) -> None:
    for frame in frames:
        try:
            client.send(frame)
        except (BrokenPipeError, ValueError):
            return


def _call_once(client: HttpClient, number: int, n: int) -> None:
    with contextlib.suppress(httpx.HTTPError):
        client.post(call(f"h{n}", "hang", {"round": number, "n": n}))


def _call_until_gone(client: HttpClient, number: int, thread: int) -> None:
    for n in range(10_000):
        try:
            client.post(call(n, "echo", {"round": number, "thread": thread, "n": n}))
        except httpx.HTTPError:
            return
