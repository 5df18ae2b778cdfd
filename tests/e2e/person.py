"""A person at a terminal who answers approvals."""

import json
import os
import pty
import select
import subprocess
import sys
import time
from typing import Any

from gateway.approvals.request import Request
from gateway.approvals.store import Store
from tests.e2e.inbox import PATIENCE_S, Message
from tests.e2e.world import World


def store_of(world: World) -> Store:
    """The approvals of the world's user, as another program of that user sees them."""
    state = world.root / "home" / ".local" / "state" / "mcp-tool-gateway" / "approvals"
    return Store.open(state)


def waiting(world: World, count: int = 1) -> list[Request]:
    """What waits for a person, once that is so many."""
    store = store_of(world)
    world.wait_for(lambda: len(store.pending()) >= count)
    return list(store.pending())


def run(world: World, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """`gateway approvals` without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "gateway", "approvals", *arguments],
        env={**world.env, **more},
        cwd=world.root,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def at_terminal(world: World, *arguments: str, typed: str = "", **more: str) -> tuple[int, str]:
    """`gateway approvals` in a terminal, whose user types `typed` when asked; code and screen."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "approvals", *arguments],
        env={**world.env, **more},
        cwd=world.root,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    screen = b""
    deadline = time.monotonic() + PATIENCE_S
    try:
        while time.monotonic() < deadline:
            ready, _, _ = select.select([master], [], [], 0.1)
            if ready:
                try:
                    chunk = os.read(master, 65536)
                except OSError:  # the other side is closed
                    break
                screen += chunk
            if typed and b"[y/N]" in screen:
                os.write(master, typed.encode())
                typed = ""
        return process.wait(PATIENCE_S), screen.decode()
    finally:
        process.kill()
        process.wait()
        os.close(master)


def approve(world: World, request: Request, *more: str) -> str:
    """A person approves; what the screen showed."""
    code, screen = at_terminal(world, "approve", request.id, *more, typed="y\n")
    assert code == 0, screen
    return screen


def deny(world: World, request: Request) -> str:
    code, screen = at_terminal(world, "deny", request.id)
    assert code == 0, screen
    return screen


def events(world: World) -> list[tuple[str, Message]]:
    """What the log says of approvals."""
    found: list[tuple[str, dict[str, Any]]] = [
        (record["event"], record["data"])
        for record in world.records(kind="event")
        if record["event"].startswith("approval.")
    ]
    return found


def rules(world: World, *made: dict[str, Any]) -> None:
    """Write the policy of the world."""
    world.settings["policies"] = "policies"
    (world.root / "policies").mkdir(exist_ok=True)
    (world.root / "policies" / "p.yaml").write_text(json.dumps({"rules": list(made)}, indent=0))
