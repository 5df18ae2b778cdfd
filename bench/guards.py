"""What guards cost: by themselves, and a call under the `sql` guard through a gateway.

The second shows that calls beside one that takes long to examine do not wait for it.
"""

import asyncio
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bench.load import messages
from bench.subjects import gateway
from bench.subjects.subject import Site
from gateway.policy.guards import build
from gateway.policy.guards.keyword import Job
from gateway.relay.guarding import Guarding

_ROUNDS = 30
_LEAST_S = 0.005
_JOIN = (
    "select p.name, sum(o.quantity * p.price) as total from orders o join products p on "
    "p.id = o.product_id where o.ordered_at > now() - interval '7 days' group by p.name "
    "having sum(o.quantity) > 3 order by total desc limit 10"
)
_LARGE = f"select {', '.join(f'a{number} + b{number} * 2' for number in range(2_600))} from t"  # noqa: S608 - run nowhere
BRACKETS = "select " + "(" * 200_000 + "1" + ")" * 200_000
_CASES: tuple[tuple[str, str, object, object], ...] = (
    ("size", "200 characters", {"max_bytes": 1000}, "x" * 200),
    ("path", "five parts", {"roots": ["/srv/data"]}, "/srv/data/a/b/c.txt"),
    ("url", "with a path", {"hosts": ["*.example.com"]}, "https://shop.example.com/a/b?c=d"),
    ("sql", "select 1", {}, "select 1"),
    ("sql", "a join with aggregates", {}, _JOIN),
    ("sql", f"{len(_LARGE) // 1000} kB", {}, _LARGE),
)


class Cost(NamedTuple):
    """Microseconds for one value: the least and the middle of several rounds."""

    guard: str
    value: str
    least_us: float
    median_us: float


class Beside(NamedTuple):
    """Milliseconds through `gateway connect`."""

    brackets_least_ms: float
    brackets_median_ms: float
    long_ms: float
    plain_alone_ms: float
    plain_beside_ms: float
    plain_beside_most_ms: float
    beside: int


def costs() -> list[Cost]:
    """What each guard costs for a value that it lets pass, and the way to its process."""
    found = []
    for name, value, options, argument in _CASES:
        guard = build(name, options)
        guard.prepare()
        assert guard.glance(argument) is None
        assert guard.check(argument) is None
        found.append(Cost(name, value, *_timed(partial(guard.check, argument))))
    glance = build("sql", {})
    assert glance.glance(BRACKETS) is not None
    found.append(Cost("sql", "400 kB of brackets", *_timed(lambda: glance.glance(BRACKETS))))
    return [*found, asyncio.run(_way())]


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    started = time.perf_counter()
    work()
    times = max(1, int(_LEAST_S / max(time.perf_counter() - started, 1e-7)))
    taken = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        for _ in range(times):
            work()
        taken.append((time.perf_counter() - started) / times * 1e6)
    return min(taken), statistics.median(taken)


async def _way() -> Cost:
    """`select 1` examined in the guards' process."""
    guarding = Guarding()
    taken = []
    for number in range(300):
        done = asyncio.get_running_loop().create_future()
        job = Job("sql", "{}", json.dumps(f"select {number}").encode())
        started = time.perf_counter()
        guarding.judge([job], done.set_result)
        verdicts = await done
        taken.append((time.perf_counter() - started) * 1e6)
        assert verdicts == (None,), verdicts
    guarding.close()
    return Cost("sql", "select 1, in its process", min(taken[1:]), statistics.median(taken[1:]))


def beside() -> Beside:
    """Calls through a gateway whose tool `echo` takes SQL only, and `blob` anything."""
    with tempfile.TemporaryDirectory(prefix="bench-guards-") as directory:
        site = Site(Path(directory), 0, "")
        rule = {
            "name": "sql",
            "effect": "allow-only-if",
            "tools": "mcp__echo__echo",
            "arguments": {"properties": {"text": {"sql": {}}}},
        }
        (site.directory / "rules.yaml").write_text(json.dumps({"rules": [rule]}))
        gateway.write(
            site,
            "process",
            upstreams={"echo": gateway.stdio_entry()},
            agents={gateway.AGENT: ("mcp__echo",)},
            policies={"policies": ["rules.yaml"]},
        )
        with _Connection(site) as client:
            client.call("echo", text="select 1")  # starts the guards' process
            brackets = [client.timed("echo", text=BRACKETS) for _ in range(20)]
            alone = [client.timed("blob", size=100) for _ in range(200)]
            started = time.perf_counter()
            waited = client.send("echo", text=_LARGE)
            plain: list[float] = []
            while not client.has(waited):
                plain.append(client.timed("blob", size=100))
            long_ms = (time.perf_counter() - started) * 1e3
    return Beside(
        min(brackets),
        statistics.median(brackets),
        long_ms,
        statistics.median(alone),
        statistics.median(plain),
        max(plain),
        len(plain),
    )


class _Connection:
    """`gateway connect echo`, a frame at a time."""

    def __init__(self, site: Site) -> None:
        launch = gateway.run(site, "connect", "echo")
        self._process = subprocess.Popen(  # noqa: S603 - this very gateway
            launch.argv, env=dict(launch.env), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._number = 0
        self._answered: set[int] = set()

    def __enter__(self) -> "_Connection":
        self._write(messages.initialize(0))
        self._until(0)
        self._write(messages.INITIALIZED)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)

    def send(self, tool: str, **arguments: object) -> int:
        """Send a call; its number."""
        self._number += 1
        params = json.dumps({"name": tool, "arguments": arguments}).encode()
        self._write(messages.request(self._number, "tools/call", params))
        return self._number

    def has(self, number: int) -> bool:
        """Whether the answer has come, as far as was read."""
        return number in self._answered

    def call(self, tool: str, **arguments: object) -> None:
        """Send a call, and wait for its answer."""
        self._until(self.send(tool, **arguments))

    def timed(self, tool: str, **arguments: object) -> float:
        """The same; how long it took, in milliseconds."""
        started = time.perf_counter()
        self.call(tool, **arguments)
        return (time.perf_counter() - started) * 1e3

    def _write(self, frame: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(frame + b"\n")
        self._process.stdin.flush()

    def _until(self, number: int) -> None:
        assert self._process.stdout is not None
        while number not in self._answered:
            line = self._process.stdout.readline()
            if not line:
                raise RuntimeError("the gateway ended")
            identifier = messages.identifier_of(line)
            if identifier is not None:
                self._answered.add(identifier)


def report(found: list[Cost], through: Beside) -> str:
    """All of it as text."""
    lines = [f"{'guard':8} {'a value':28} {'least':>10} {'middle':>10}  (us)"]
    lines += [
        f"{each.guard:8} {each.value:28} {each.least_us:10.1f} {each.median_us:10.1f}"
        for each in found
    ]
    lines += [
        "",
        "Through `gateway connect`, in ms:",
        f"400 kB of brackets refused: {through.brackets_least_ms:.1f} at least, "
        f"{through.brackets_median_ms:.1f} in the middle",
        f"a statement of {len(_LARGE) // 1000} kB: {through.long_ms:.0f}",
        f"another call meanwhile: {through.plain_beside_ms:.2f} in the middle of {through.beside}, "
        f"{through.plain_beside_most_ms:.2f} at most; alone {through.plain_alone_ms:.2f}",
    ]
    return "\n".join(lines)
