"""The demo's surroundings: a checkout's real servers and stand-ins, in a process of their own."""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gateway.cli.demo_scenario import Generation
from gateway.errors import UserError

_STOP_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class World:
    """What is there while it runs.

    `config` is a configuration with the servers that are installed, `environment` the variables
    that it refers to, `missing` the other servers with the reason for each.
    """

    config: Path
    environment: Mapping[str, str]
    missing: Mapping[str, str]
    page_url: str
    project_ref: str


def checkout() -> Path:
    """The checkout of the repository that this package is run from; raises UserError without."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "tests/real/world.py").is_file():
        raise UserError(
            "the demo needs a checkout of the repository, because an installed package holds no "
            "servers to show; clone it and run `make demo` there"
        )
    return root


@contextlib.contextmanager
def running_world(root: Path, generation: Generation) -> Iterator[World]:
    """The world of the checkout `root`, up and then down again. Raises UserError if it fails."""
    with tempfile.TemporaryFile("w+", errors="replace") as stderr:
        process = subprocess.Popen(  # noqa: S603 - a module of this checkout, a fixed option
            [sys.executable, "-m", "tests.real.world", "--generation", generation],
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                line = process.stdout.readline()
                if not line:
                    raise _explained(process, stderr)
                described = json.loads(line)
                yield World(
                    config=Path(described["config"]),
                    environment=described["environment"],
                    missing=described["missing"],
                    page_url=described["page_url"],
                    project_ref=described["project_ref"],
                )
            finally:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
                _wait(process)


def _explained(process: subprocess.Popen[str], stderr: IO[str]) -> UserError:
    process.wait()
    stderr.seek(0)
    lines = stderr.read().strip().splitlines() or ["it said nothing"]
    return UserError(
        f"the servers' surroundings did not start: {lines[-1]}; run `make demo`, which installs "
        "what is missing"
    )


def _wait(process: subprocess.Popen[str]) -> None:
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
