"""Starts what is compared: a server by itself, and the gateway in mirror mode before a server."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.real.rawclient import wait_ended

REPOSITORY = Path(__file__).parents[2]
FIXTURE = "tests.conformance.fixture_server"
AGENT = "conformance"
_START_LIMIT_S = 30.0
_GRACE_S = 5.0
_AGENT_FILE = """---
name: {agent}
description: May use everything that one server offers.
tools: mcp__{upstream}
---
You call what you are asked to call.
"""

Entry = Mapping[str, Any]
"""An upstream as it stands in gateway.yaml."""


class StartError(Exception):
    """A process did not announce that it serves; the message has the end of what it printed."""


def fixture_entry() -> Entry:
    """The fixture server as a stdio upstream."""
    return {
        "command": sys.executable,
        "args": ["-m", FIXTURE, "--stdio"],
        "cwd": str(REPOSITORY),
    }


def http_entry(url: str) -> Entry:
    """A server over HTTP as an upstream."""
    return {"type": "http", "url": url}


def write_config(directory: Path, upstream: str, entry: Entry) -> Path:
    """Write gateway.yaml for an agent that declares all of one upstream, sampling granted."""
    agents = directory / "agents"
    agents.mkdir(parents=True)
    (agents / f"{AGENT}.md").write_text(_AGENT_FILE.format(agent=AGENT, upstream=upstream))
    config = {
        "agents_from": ["agents"],
        "default_agent": AGENT,
        "http": {"anonymous": "loopback"},
        "agents": {AGENT: {"grants": {"sampling": [upstream]}}},
        "upstreams": {upstream: dict(entry)},
        "audit": {"directory": "audit"},
    }
    path = directory / "gateway.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


@contextlib.contextmanager
def fixture_over_http() -> Iterator[str]:
    """The URL of a fixture server of its own."""
    command = [sys.executable, "-m", FIXTURE, "--http"]
    with _serving(command, re.compile(r"^(http\S+)$", re.MULTILINE)) as url:
        yield url


@contextlib.contextmanager
def gateway_before(upstream: str, entry: Entry) -> Iterator[str]:
    """The URL under which a gateway of its own mirrors an upstream."""
    with tempfile.TemporaryDirectory(prefix="conformance-") as directory:
        config = write_config(Path(directory), upstream, entry)
        command = [*gateway_command("serve", config), "--trusted", "--port", "0"]
        pattern = re.compile(rf"^Serving (http\S+/{upstream}/mcp) ", re.MULTILINE)
        with _serving(command, pattern) as url:
            yield url


def gateway_command(subcommand: str, config: Path) -> list[str]:
    """How the gateway of this tree is started."""
    return [sys.executable, "-m", "gateway", subcommand, "-c", str(config)]


@contextlib.contextmanager
def _serving(command: Sequence[str], announced: re.Pattern[str]) -> Iterator[str]:
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, "NO_PROXY": "*"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield _wait_announced(process, output.fileno(), announced)
        finally:
            end(process)


def _wait_announced(process: subprocess.Popen[str], output: int, announced: re.Pattern[str]) -> str:
    give_up_at = time.monotonic() + _START_LIMIT_S
    while True:
        printed = os.pread(output, 65_536, 0).decode(errors="replace")
        found = announced.search(printed)
        if found is not None:
            return found[1]
        if process.poll() is not None or time.monotonic() > give_up_at:
            raise StartError(f"{process.args!r} serves nothing: {printed[-500:]}")
        time.sleep(0.02)


def end(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """End a process and all its descendants: asked first, then killed."""
    family: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        family.append(psutil.Process(process.pid))
        family += family[0].children(recursive=True)
    process.terminate()
    for left in wait_ended(family, timeout_s=_GRACE_S):
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()
    process.wait(_GRACE_S)
