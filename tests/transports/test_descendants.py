"""No process of an upstream survives it, whatever session or parent it has moved to."""

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

import pytest
from upstream_support import Recorder, is_running, until

from gateway.transports.descendants import MARKER_VARIABLE, Family
from gateway.transports.process import StdioSpec, StdioUpstream

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")

ENV = {"PATH": os.environ["PATH"]}

# Starts a process in a session of its own by a double fork, so that its parent becomes init.
DAEMON = """
import os, sys, time, signal
def daemon(work):
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writer, str(os.getpid()).encode())
            work()
        os._exit(0)
    os.wait()
    return int(os.read(reader, 20))
def sleeps():
    time.sleep(60)
def ignores_term():
    signal.signal(15, signal.SIG_IGN)
    while True: time.sleep(60)
def respawns():
    # Each generation ends and leaves another, as some helpers do.
    for _ in range(40):
        if os.fork(): os._exit(0)
        time.sleep(0.01)
    time.sleep(60)
"""


def child(code: str, events: Recorder, test: str = "") -> StdioUpstream:
    argv = (sys.executable, "-c", DAEMON + code)
    return StdioUpstream(StdioSpec("up", argv, {**ENV, "TEST_RUN": test}, "/", 1 << 20), events)


@pytest.mark.parametrize("work", ["sleeps", "ignores_term", "respawns"])
@pytest.mark.parametrize("end", ["sys.stdin.read()", "time.sleep(60)", "os._exit(1)"])
def test_a_reparented_grandchild_in_its_own_session_is_ended(run, work: str, end: str) -> None:
    async def scenario() -> None:
        events = Recorder()
        test = secrets.token_hex(8)
        up = child(f"print([daemon({work})], flush=True)\n{end}", events, test)
        await up.start()
        await until(lambda: events.frames)
        grandchild = json.loads(events.texts[0])[0]
        await up.stop(0.3)
        assert not is_running(grandchild)
        assert len(events.closings) == 1
        assert carriers(test) == []

    run(scenario())


def test_a_grandchild_without_the_marker_is_known_from_before_its_parent_exits(run) -> None:
    code = """
import subprocess
p = subprocess.Popen(["sleep", "60"], env={}, start_new_session=True, stdout=2)
print([p.pid], flush=True)
sys.stdin.read()
"""

    async def scenario() -> None:
        events = Recorder()
        up = child(code, events)
        await up.start()
        await until(lambda: events.frames)
        await up.stop(0.3)
        assert events.closings[0][0] == "exited with status 0"
        assert not is_running(json.loads(events.texts[0])[0])

    run(scenario())


def test_a_browser_that_ends_by_itself_is_waited_for_and_not_signalled(run, tmp_path: Path) -> None:
    code = """
import subprocess
late = "import sys,time; sys.stdin.read(); time.sleep(.3); open(sys.argv[1], 'w').close()"
subprocess.Popen([sys.executable, "-c", late, PATH], start_new_session=True)
print("{}", flush=True)
"""

    async def scenario() -> None:
        events = Recorder()
        up = child(f"PATH={str(path)!r}\n{code}\nsys.stdin.read()", events)
        await up.start()
        await until(lambda: events.frames)
        await up.stop(5)

    path = tmp_path / "ended-in-peace"
    run(scenario())
    assert path.exists()


def test_only_the_familys_own_processes_are_found() -> None:
    env = {**os.environ, MARKER_VARIABLE: "ours"}
    other = {**os.environ, MARKER_VARIABLE: "theirs"}
    with (
        subprocess.Popen(["sleep", "60"], env=env) as ours,
        subprocess.Popen(["sleep", "60"], env=other) as theirs,
    ):
        try:
            family = Family(ours.pid, "ours")
            family.root_exited()  # so that only the marker tells
            assert {member.pid for member in asyncio.run(family.survey())} == {ours.pid}
        finally:
            ours.kill()
            theirs.kill()


def test_a_pid_that_was_reused_is_not_signalled() -> None:
    async def scenario(stranger: int) -> None:
        family = Family(stranger, "nobody")
        (member,) = await family.survey()
        family.root_exited()
        family._known = {type(member)(member.pid, member.started - 1)}
        exited = asyncio.get_running_loop().create_future()
        exited.set_result(0)
        assert await family.end_all(0.0, exited) == set()

    with subprocess.Popen(["sleep", "60"]) as stranger:
        try:
            asyncio.run(scenario(stranger.pid))
            assert is_running(stranger.pid)
        finally:
            stranger.kill()


def test_a_zombie_does_not_count_as_alive() -> None:
    zombie = subprocess.Popen(["true"])
    while is_running(zombie.pid):
        time.sleep(0.005)
    assert asyncio.run(Family(zombie.pid, "x").survey()) == set()
    zombie.wait()


def carriers(test: str) -> list[int]:
    """Live processes with this value of TEST_RUN in their environment."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and is_running(int(path.name)):
            try:
                environ = (path / "environ").read_bytes()
            except OSError:
                continue
            if f"TEST_RUN={test}".encode() in environ:
                found.append(int(path.name))
    return found
