"""A person at a terminal who answers approvals."""

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.approvals.request import Request
from gateway.approvals.store import Store
from tests.e2e.inbox import PATIENCE_S, Message
from tests.e2e.world import World, until


class Person:
    """Somebody with the environment `env` of the gateway's user, in a directory."""

    def __init__(self, env: Mapping[str, str], directory: Path) -> None:
        self.env = dict(env)
        self.directory = directory

    @property
    def store(self) -> Store:
        """The approvals of this user, as another program of theirs sees them."""
        state = self.env.get("XDG_STATE_HOME") or f"{self.env['HOME']}/.local/state"
        return Store.open(Path(state, "mcp-tool-gateway/approvals"))

    def waiting(self, count: int = 1) -> list[Request]:
        """What waits for a person, once that is so many."""
        store = self.store
        until(lambda: len(store.pending()) >= count)
        return list(store.pending())

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """`gateway approvals` without a terminal."""
        return subprocess.run(
            self._argv(arguments),
            env=self.env,
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    def at_terminal(self, *arguments: str, typed: str = "", **more: str) -> tuple[int, str]:
        """`gateway approvals` in a terminal, typing `typed` when asked; exit code and screen."""
        master, slave = pty.openpty()
        process = subprocess.Popen(
            self._argv(arguments),
            env={**self.env, **more},
            cwd=self.directory,
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
                if select.select([master], [], [], 0.1)[0]:
                    try:
                        screen += os.read(master, 65536)
                    except OSError:  # the other side is closed
                        break
                if typed and b"[y/N]" in screen:
                    os.write(master, typed.encode())
                    typed = ""
            return process.wait(PATIENCE_S), screen.decode()
        finally:
            process.kill()
            process.wait()
            os.close(master)

    def approve(self, request: Request, *more: str) -> str:
        """Approve; what the screen showed."""
        code, screen = self.at_terminal("approve", request.id, *more, typed="y\n")
        assert code == 0, screen
        return screen

    def deny(self, request: Request) -> str:
        """Deny; what the screen showed."""
        code, screen = self.at_terminal("deny", request.id)
        assert code == 0, screen
        return screen

    def answer(self, request: Request, *, approved: bool) -> str:
        """What another program is told that answers."""
        return self.store.answer(request, approved=approved, by="x", way="command")

    def _argv(self, arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "gateway", "approvals", *arguments]


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
