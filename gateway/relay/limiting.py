"""Counts what the limits of rules are about, for all sessions of one gateway process.

The event loop is the only thread here, so a call takes all of its reservations or none. What is
counted is kept in memory, by counters that outlive an exchange of the configuration.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import msgspec

from gateway.policy.limits import CounterKey, Reservation, why_exceeded
from gateway.policy.rules import with_standing
from gateway.policy.values import Decision

_SLICES = 1_000
"""Into how many parts a period is cut: about so many entries a counter has at most."""

_PRUNED_FROM = 1_024


class Entry:
    """What was counted close together. It stands until the last of it is a period old."""

    __slots__ = ("amount", "first", "last")

    def __init__(self, now: float, amount: int) -> None:
        self.first = self.last = now
        self.amount = amount


class Window:
    """How much there was in the last `period_s` seconds; never told too low.

    What came within a thousandth of the period is one entry as old as its latest part.
    """

    __slots__ = ("_entries", "period_s", "used")

    def __init__(self, period_s: int) -> None:
        self.period_s = period_s
        self.used = 0
        self._entries: deque[Entry] = deque()

    def at(self, now: float) -> int:
        """What counts at this time."""
        entries, gone = self._entries, now - self.period_s
        while entries and entries[0].last <= gone:
            entry = entries.popleft()
            self.used -= entry.amount
            entry.amount = 0
        return self.used

    def add(self, now: float, amount: int) -> Entry:
        """Count `amount`."""
        self.used += amount
        if self._entries:
            entry = self._entries[-1]
            if now - entry.first <= self.period_s / _SLICES:
                entry.last = now
                entry.amount += amount
                return entry
        entry = Entry(now, amount)
        self._entries.append(entry)
        return entry

    def take_back(self, entry: Entry, amount: int) -> None:
        """Undo `add`, unless the period has done so."""
        amount = min(amount, entry.amount)
        entry.amount -= amount
        self.used -= amount

    def wait_s(self, now: float, below: int) -> float:
        """How long it takes until less than `below` counts."""
        left, wait = self.used, 0.0
        for entry in self._entries:
            if left < below:
                break
            left -= entry.amount
            wait = entry.last + self.period_s - now
        return wait


class Counter:
    """What one limit counts: in a window where there is a period, else in flight."""

    __slots__ = ("in_flight", "window")

    def __init__(self, period_s: int) -> None:
        self.window = Window(period_s) if period_s else None
        self.in_flight = 0

    def at(self, now: float) -> int:
        """What counts at this time."""
        return self.in_flight if self.window is None else self.window.at(now)


class Taken:
    """What one call has taken. It is given back when the call has ended, as far as it should be."""

    __slots__ = ("_bytes", "_calls", "_charge", "_ended", "_in_flight", "sent")

    def __init__(self, charge: Callable[[Sequence[CounterKey], int], None]) -> None:
        self.sent = False
        """Whether the call has left for its upstream: only then it counts as one."""
        self._charge = charge
        self._ended = False
        self._calls: list[tuple[Window, Entry]] = []
        self._in_flight: list[Counter] = []
        self._bytes: list[CounterKey] = []

    def take(self, key: CounterKey, counter: Counter, now: float) -> None:
        """Reserve what the counter is about."""
        window = counter.window
        if window is None:
            counter.in_flight += 1
            self._in_flight.append(counter)
        elif key[1] == "calls":
            self._calls.append((window, window.add(now, 1)))
        else:
            self._bytes.append(key)

    def charge(self, size_bytes: int) -> None:
        """An answer of this size has come."""
        if self._bytes and size_bytes:
            self._charge(self._bytes, size_bytes)

    def end(self) -> None:
        """The call has ended, in whichever way. Once is enough, more often does no harm."""
        if self._ended:
            return
        self._ended = True
        for counter in self._in_flight:
            counter.in_flight -= 1
        if not self.sent:
            for window, entry in self._calls:
                window.take_back(entry, 1)


class Standing(msgspec.Struct, frozen=True):
    """How much of a counter is used."""

    counter: CounterKey
    used: int


class Limiting:
    """The counters of one gateway. `clock` counts seconds and never goes back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counters: dict[CounterKey, Counter] = {}
        self._prune_at = _PRUNED_FROM

    def reserve(self, verdict: Decision, *, as_task: bool) -> tuple[Decision, Taken | None]:
        """Take what a call that may go on needs: all of it, or nothing and the decision refuses.

        `as_task`: the call asks to be answered at once and to go on behind. Its end and its result
        are not seen here, so limits about them refuse it.
        """
        reservations, now = verdict.reservations, self._clock()
        enforced = [each for each in reservations if each.enforced]
        observed = [each for each in reservations if not each.enforced]
        refused = self._exceeded(verdict, enforced, now, as_task)
        if refused is not None:
            return refused, None
        taken = Taken(self._add_bytes)
        noted = self._exceeded(verdict, observed, now, as_task)
        # What is only observed counts as it would if it were enforced: not the calls it refuses.
        counted = enforced if noted is not None else reservations
        # A rule and its former self may be about one counter, which counts a call once.
        for key in dict.fromkeys(each.counter for each in counted):
            taken.take(key, self._counter(key), now)
        return noted or verdict, taken

    def standings(self) -> Iterator[Standing]:
        """What every counter stands at."""
        now = self._clock()
        for key, counter in self._counters.items():
            yield Standing(key, counter.at(now))

    def _add_bytes(self, keys: Sequence[CounterKey], size_bytes: int) -> None:
        now = self._clock()
        for key in keys:
            window = self._counter(key).window
            if window is not None:
                window.at(now)
                window.add(now, size_bytes)

    def _exceeded(
        self, verdict: Decision, wanted: Sequence[Reservation], now: float, as_task: bool
    ) -> Decision | None:
        """The refusal by the limit that takes longest to be free again, None where all are free."""
        longest: tuple[float, Reservation] | None = None
        for each in wanted:
            if as_task and each.limit.kind != "calls":
                reason = (
                    f"the rule {each.rule!r} limits what cannot be counted of a call that goes on "
                    "as a task, so it refuses; make the call without a task"
                )
                return _refused(verdict, each, reason)
            counter = self._counter(each.counter)
            if counter.at(now) < each.limit.amount:
                continue
            window = counter.window
            wait = 0.0 if window is None else window.wait_s(now, each.limit.amount)
            if longest is None or wait > longest[0]:
                longest = wait, each
        if longest is None:
            return None
        wait, each = longest
        seconds = None if each.limit.kind == "in_flight" else max(1, math.ceil(wait))
        return _refused(verdict, each, why_exceeded(each, seconds))

    def _counter(self, key: CounterKey) -> Counter:
        counter = self._counters.get(key)
        if counter is None:
            if len(self._counters) >= self._prune_at:
                self._prune(self._clock())
            counter = self._counters[key] = Counter(key[2])
        return counter

    def _prune(self, now: float) -> None:
        """Drop the counters that count nothing."""
        kept = {key: each for key, each in self._counters.items() if each.at(now)}
        self._counters = kept
        self._prune_at = max(_PRUNED_FROM, 2 * len(kept))


def _refused(verdict: Decision, by: Reservation, reason: str) -> Decision:
    return msgspec.structs.replace(
        verdict,
        effect="deny",
        rule=by.rule,
        reason=with_standing(reason, former=by.former),
        file=by.file,
        line=by.line,
        enforced=by.enforced,
        reservations=(),
    )
