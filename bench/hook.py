"""What the client's hook costs before each tool call: cold processes, one after the other."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from gateway.config.trust import accept

_AGENT = """---
name: dev
description: Reads issues.
tools: Read, mcp__tracker__get_issue
---
"""
_CONFIG = {"upstreams": {"tracker": {"command": "tracker"}}, "native_tools": "enforce"}


class Figures(NamedTuple):
    """Of one command, in milliseconds: by the clock, and of the processor's time."""

    name: str
    p50_ms: float
    p99_ms: float
    processor_p50_ms: float


def measure(runs: int) -> list[Figures]:
    """Run the hook and bare interpreters `runs` times each, in turn."""
    with tempfile.TemporaryDirectory(prefix="bench-hook-") as directory:
        project = Path(directory).resolve()
        environ = _make_project(project)
        # As `gateway init` installs it.
        hook = [str(Path(sys.executable).parent / "gateway"), "hook"]
        commands: dict[str, Sequence[str]] = {
            "python -S -c pass": [sys.executable, "-S", "-c", "pass"],
            "python -c pass": [sys.executable, "-c", "pass"],
            "gateway hook, a native tool": hook,
            "gateway hook, a tool of an upstream": hook,
        }
        tools = {"gateway hook, a native tool": "Read"}
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for number in range(-2, runs):
            for name, command in commands.items():
                message = _message(project, tools.get(name, "mcp__tracker__get_issue"), number)
                both = _run(command, message, project, environ)
                if number >= 0:  # the first ones fill the caches
                    taken[name].append(both)
    return [_figures(name, each) for name, each in taken.items()]


def table(figures: Sequence[Figures]) -> str:
    """The figures as text; what is above a bare interpreter is by the clock, at p50."""
    bare = figures[0].p50_ms
    lines = [f"{'':36} {'p50':>8} {'p99':>8} {'above':>8} {'cpu p50':>8}  (ms)"]
    lines += [
        f"{each.name:36} {each.p50_ms:8.1f} {each.p99_ms:8.1f} {each.p50_ms - bare:8.1f} "
        f"{each.processor_p50_ms:8.1f}"
        for each in figures
    ]
    return "\n".join(lines)


def _make_project(root: Path) -> dict[str, str]:
    """A project whose configuration a person has accepted; the environment to run in."""
    agents = root / ".claude" / "agents"
    agents.mkdir(parents=True)
    (agents / "dev.md").write_text(_AGENT)
    (root / "gateway.yaml").write_text(json.dumps(_CONFIG))
    environ = {"HOME": str(root), "PATH": os.environ["PATH"]}
    environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(environ)
    try:
        accept(None, cwd=root)
    finally:
        os.environ.clear()
        os.environ.update(before)
    return environ


def _message(project: Path, tool: str, number: int) -> bytes:
    message = {
        "session_id": "bench",
        "cwd": str(project),
        "hook_event_name": "PreToolUse",
        "tool_name": tool,
        "tool_input": {"number": number},
        "tool_use_id": f"toolu_{number}",
        "agent_type": "dev",
        "agent_id": "agent-1",
    }
    return json.dumps(message).encode()


def _run(
    command: Sequence[str], message: bytes, project: Path, environ: Mapping[str, str]
) -> tuple[float, float]:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started_s = time.perf_counter()
    done = subprocess.run(  # noqa: S603 - the commands above
        command, input=message, env=environ, cwd=project, capture_output=True, check=True
    )
    took_s = time.perf_counter() - started_s
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.stdout or done.stderr:
        raise RuntimeError(f"the hook was to say nothing, but said {done.stdout or done.stderr!r}")
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return took_s * 1e3, used_s * 1e3


def _figures(name: str, taken: Sequence[tuple[float, float]]) -> Figures:
    wall, processor = sorted(each[0] for each in taken), sorted(each[1] for each in taken)
    middle, last = len(taken) // 2, min(len(taken) - 1, len(taken) * 99 // 100)
    return Figures(name, wall[middle], wall[last], processor[middle])
