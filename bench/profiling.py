"""Where the gateway's time goes: sampled from outside under load, told by module and function."""

import asyncio
import subprocess
import sys
from collections import Counter
from pathlib import Path

from bench.load.loops import closed_loop
from bench.load.messages import blob
from bench.measure.calls import KB
from bench.measure.run import started, upstream
from bench.places import PEERS, ROOT
from bench.subjects.own import own_subjects
from bench.subjects.subject import Combo

_RATE = 500
_FOLDER = PEERS / "py-spy"
_SHOWN = 15


class NoProfilerError(Exception):
    """py-spy is missing and cannot be installed; the message says why."""


async def profile(combo: Combo, in_flight: int, duration_s: float, size_bytes: int = KB) -> str:
    """The summary of one path under load, in markdown. Raises NoProfilerError."""
    program = _py_spy()
    gateway = next(each for each in own_subjects() if each.name == "gateway")
    async with upstream(tools=10) as url, started(gateway, combo, url) as running:
        call = blob(size_bytes, tool=running.blob)
        await closed_loop(running.session, call, in_flight=in_flight, duration_s=0.5)
        stacks = running.family.log.with_name("stacks.txt")
        sampler = await asyncio.create_subprocess_exec(
            *_command(program, running.family.process.pid, stacks, duration_s),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        before_s = running.family.cpu_s()
        load = await closed_loop(
            running.session, call, in_flight=in_flight, duration_s=duration_s + 1
        )
        cpu_us = (running.family.cpu_s() - before_s) * 1e6 / max(1, len(load.latencies_us))
        _, stderr = await sampler.communicate()
        if sampler.returncode != 0:
            raise NoProfilerError(stderr.decode().strip() or "py-spy failed")
        head = (
            f"{combo}, {in_flight} in flight, results of {size_bytes:,} bytes: "
            f"{load.calls_per_s:,.0f} calls/s, {cpu_us:.0f} us CPU a call while sampled\n"
        )
        return head + summary(stacks.read_text())


def summary(folded: str) -> str:
    """Shares of the samples by module and by function, out of folded stacks.

    Own time is that of the function itself with the C code that it calls.
    """
    by_module: Counter[str] = Counter()
    by_function: Counter[str] = Counter()
    inclusive: Counter[str] = Counter()
    total = 0
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [_frame(text) for text in stack.split(";") if " (" in text]
        if not frames or not count.isdigit():
            continue
        samples = int(count)
        total += samples
        by_module[frames[-1].partition(" ")[0]] += samples
        by_function[frames[-1]] += samples
        inclusive.update(dict.fromkeys(filter(_own, frames), samples))
    tables = (
        ("module, own time", by_module),
        ("function, own time", by_function),
        ("function, with what it calls", inclusive),
    )
    return "\n".join(_table(title, counter, total) for title, counter in tables)


def _own(frame: str) -> bool:
    """Whether it is a function of the gateway's, past those that only start the event loop."""
    return frame.startswith("gateway.") and not frame.startswith(
        ("gateway.__main__", "gateway.cli")
    )


def _table(title: str, counter: Counter[str], total: int) -> str:
    lines = [f"| {title} | % |", "|---|---|"]
    lines += [
        f"| `{name}` | {100 * samples / total:.1f} |"
        for name, samples in counter.most_common(_SHOWN)
    ]
    return "\n".join(lines) + "\n"


def _frame(text: str) -> str:
    """`module function` out of py-spy's `function (path:line)`."""
    function, _, place = text.rpartition(" (")
    path = place.rstrip(")").rpartition(":")[0] or place.rstrip(")")
    for root in (str(ROOT) + "/gateway/", "/site-packages/", "/lib/python3."):
        _, found, rest = path.rpartition(root)
        if found:
            path = "gateway/" + rest if "gateway" in root else rest.lstrip("0123456789/")
            break
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return f"{module} {function}"


def _command(program: Path, pid: int, stacks: Path, duration_s: float) -> tuple[str, ...]:
    return (
        *(str(program), "record", "--pid", str(pid), "--rate", str(_RATE)),
        *("--duration", str(int(duration_s)), "--format", "raw", "--output", str(stacks)),
        *("--full-filenames", "--nonblocking"),
    )


def _py_spy() -> Path:
    program = _FOLDER / "bin/py-spy"
    if not program.exists():
        steps: list[tuple[str, ...]] = [
            (sys.executable, "-m", "venv", str(_FOLDER)),
            (str(_FOLDER / "bin/python"), "-m", "pip", "install", "--quiet", "py-spy"),
        ]
        for step in steps:
            done = subprocess.run(  # noqa: S603 - the installer, with a name that stands here
                step, capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                raise NoProfilerError(f"py-spy cannot be installed: {done.stderr.strip()[-200:]}")
    return program
