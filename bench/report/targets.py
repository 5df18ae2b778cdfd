"""The targets, computed from one run as ratios of its medians."""

from collections.abc import Iterator
from dataclasses import dataclass

from bench.measure.growth import LARGE, SMALL
from bench.measure.results import Results
from bench.subjects.own import UNAUDITED
from bench.subjects.peers import peer_subjects
from bench.subjects.subject import COMBOS, Combo

GATEWAY = "gateway"
POWER = "gateway, power"
_RELAY = "relay"
_RESULT_MB = 10.0


@dataclass(frozen=True)
class Target:
    """One target: `value` must be at most, or at least, `bound`. None: not measured."""

    what: str
    value: float | None
    bound: float
    at_least: bool = False
    unit: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether it is; None where it was not measured."""
        if self.value is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound


def targets(results: Results) -> list[Target]:
    """All targets, in the order in which they are stated."""
    return [
        *_latency(results),
        *_throughput(results),
        *_large(results),
        *_growth(results),
        *_footprint(results),
        *_auditing(results),
    ]


def _latency(results: Results) -> Iterator[Target]:
    for combo in COMBOS:
        ratio = _ratio(results, combo, "p50_1_us", GATEWAY, _RELAY)
        yield Target(f"{combo}: p50 at 1 in flight, times the relay's", ratio, 1.6)
    for combo in COMBOS:
        yield Target(
            f"{combo}: added latency, the fastest Python peer's over the gateway's",
            _added_latency(results, combo),
            8,
            at_least=True,
        )


def _throughput(results: Results) -> Iterator[Target]:
    for combo in COMBOS:
        ratio = _ratio(results, combo, "calls_64_per_s", GATEWAY, _RELAY)
        yield Target(f"{combo}: calls/s at 64, share of the relay's", ratio, 0.5, at_least=True)
    for combo in COMBOS:
        own = results.value(GATEWAY, combo, "calls_64_per_s")
        best = max(_of_peers(results, combo, "calls_64_per_s"), default=None)
        ratio = own / best if own is not None and best else None
        what = f"{combo}: calls/s at 64, times the fastest Python peer's"
        yield Target(what, ratio, 20, at_least=True)


def _large(results: Results) -> Iterator[Target]:
    for combo in COMBOS:
        ratio = _ratio(results, combo, "size_10mb_ms", GATEWAY, _RELAY)
        yield Target(f"{combo}: 10 MB result, times the relay's time", ratio, 1.5)
    for combo in COMBOS:
        added = results.value(GATEWAY, combo, "added_by_10mb_mb")
        ratio = None if added is None else added / _RESULT_MB
        yield Target(f"{combo}: memory added by 10 MB, times the size", ratio, 4)
    for combo in COMBOS:
        stall_ms = results.value(GATEWAY, combo, "stall_ms")
        relay_ms = results.value(_RELAY, combo, "stall_ms")
        if combo.startswith("S"):
            # One pipe carries one message after the other: the relay has that stall as well.
            added = None if stall_ms is None or relay_ms is None else stall_ms - relay_ms
            yield Target(f"{combo}: stall by 10 MB, above the relay's", added, 20, unit="ms")
        else:
            yield Target(f"{combo}: stall of another session by 10 MB", stall_ms, 20, unit="ms")


def _growth(results: Results) -> Iterator[Target]:
    for metric, what in (("p50_1_us", "p50 of a call"), ("cpu_64_us", "CPU of a call at 64")):
        large = results.value(LARGE.name, "SH", metric)
        small = results.value(SMALL.name, "SH", metric)
        ratio = None if large is None or not small else large / small
        yield Target(f"{what} in the large world, times the small one's", ratio, 1.2)
    listing_ms = results.value(LARGE.name, "SH", "listing_ms")
    yield Target("listing 10,000 tools for one agent", listing_ms, 200, unit="ms")


def _footprint(results: Results) -> Iterator[Target]:
    first_s = results.value(GATEWAY, "SS", "initialize_s")
    yield Target("connect: start to first answer", first_s, 0.3, unit="s")
    rss_mb = results.value(GATEWAY, "SS", "rss_idle_mb")
    yield Target("connect: resident when idle", rss_mb, 45, unit="MB")
    opened = results.value(GATEWAY, "HH", "sessions_opened") or 0.0
    sessions_mb = results.value(GATEWAY, "HH", "rss_sessions_mb") if opened >= 1000 else None
    yield Target("1,000 idle HTTP sessions, resident", sessions_mb, 100, unit="MB")


def _auditing(results: Results) -> Iterator[Target]:
    for combo in COMBOS:
        share = _ratio(results, combo, "calls_64_per_s", POWER, UNAUDITED)
        what = f"{combo}: calls/s at 64 with power-loss durability, share of those without a log"
        yield Target(what, share, 0.5, at_least=True)


def _added_latency(results: Results, combo: Combo) -> float | None:
    """How many times more a Python peer adds than the gateway does.

    What is added is counted from the direct way; where there is none, because client and upstream
    speak different transports, from the bare relay, as the least that any path could add.
    """
    base = results.value("direct", combo, "p50_1_us") or results.value(_RELAY, combo, "p50_1_us")
    own = results.value(GATEWAY, combo, "p50_1_us")
    best = min(_of_peers(results, combo, "p50_1_us"), default=None)
    if base is None or own is None or best is None:
        return None
    return (best - base) / max(own - base, 1.0)


def _of_peers(results: Results, combo: Combo, metric: str) -> Iterator[float]:
    for peer in peer_subjects():
        value = results.value(peer.name, combo, metric)
        if peer.kind == "python peer" and value is not None:
            yield value


def _ratio(results: Results, combo: Combo, metric: str, one: str, other: str) -> float | None:
    upper, lower = results.value(one, combo, metric), results.value(other, combo, metric)
    return None if upper is None or not lower else upper / lower
