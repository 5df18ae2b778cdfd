"""Limits of rules: how much in which time, and for whom it is counted (pure values).

`gateway.relay.limiting` counts; a decision only says what an allowed call has to reserve.
"""

from typing import Literal, TypeAlias

import msgspec

LimitKind: TypeAlias = Literal["calls", "in_flight", "result_bytes"]
Per: TypeAlias = Literal["agent", "tool", "upstream", "rule"]

CounterKey: TypeAlias = tuple[str, LimitKind, int, tuple[tuple[Per, str], ...]]
"""What is counted together: the rule's name, what, in how many seconds, and for whom.

The amount is no part of it: where a limit is changed, what was counted so far still counts.
"""


class Limit(msgspec.Struct, frozen=True):
    """At most `amount` in any `period_s` seconds, or at a time where that is 0 (in flight)."""

    kind: LimitKind
    amount: int
    period_s: int = 0


class Limits(msgspec.Struct, frozen=True):
    """What a rule limits. `per` tells what is counted apart; ("rule",) is nothing."""

    limits: tuple[Limit, ...]
    per: tuple[Per, ...] = ("agent",)


class Reservation(msgspec.Struct, frozen=True):
    """What a call has to take before it may go on, and the rule that says so.

    Not `enforced`: it is counted, and what it would refuse is recorded only.
    """

    rule: str
    file: str
    line: int
    limit: Limit
    counter: CounterKey
    enforced: bool
    message: str = ""
    former: bool = False


def counter_of(rule: str, limit: Limit, per: tuple[Per, ...], who: dict[Per, str]) -> CounterKey:
    """The counter of one limit for a call of `who`."""
    return (rule, limit.kind, limit.period_s, tuple((each, who[each]) for each in per))


def in_words(limits: Limits) -> str:
    """All that is limited, as in "at most 30 calls in 1 hour and 2 in flight for each agent"."""
    parts = [amount_in_words(limit) for limit in limits.limits]
    return f"at most {_joined(parts)}{for_whom(limits.per)}"


def amount_in_words(limit: Limit) -> str:
    """As in "30 calls in 1 hour"."""
    if limit.kind == "in_flight":
        return f"{_count(limit.amount, 'call')} in flight"
    if limit.kind == "calls":
        return f"{_count(limit.amount, 'call')} in {_period(limit.period_s)}"
    return f"{_size(limit.amount)} of results in {_period(limit.period_s)}"


def for_whom(per: tuple[Per, ...]) -> str:
    """As in " for each agent and upstream"."""
    return " in all" if per == ("rule",) else f" for each {_joined(list(per))}"


def why_exceeded(reservation: Reservation, wait_s: int | None) -> str:
    """The reason for the model: what is limited, and when to try again (None: that is unknown)."""
    limit = reservation.limit
    again = "when one of them has ended" if wait_s is None else f"in {_count(wait_s, 'second')}"
    if reservation.message:
        return f"{reservation.message.rstrip('.')}; try again {again}"
    used = {
        "calls": "that many have been made",
        "in_flight": "that many are under way",
        "result_bytes": "they are used up",
    }[limit.kind]
    per = tuple(each for each, _ in reservation.counter[3])
    whole = f"at most {amount_in_words(limit)}{for_whom(per or ('rule',))}"
    return f"the rule {reservation.rule!r} allows {whole}, and {used}; try again {again}"


def _joined(parts: list[str]) -> str:
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


_PERIODS = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


def _period(seconds: int) -> str:
    for length, word in _PERIODS:
        if seconds % length == 0:  # mutants: what is left is never less
            return _count(seconds // length, word)
    raise AssertionError("every number of seconds is one of seconds")


_SIZES = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


def _size(size: int) -> str:
    for length, word in _SIZES:
        if size % length == 0:  # mutants: what is left is never less
            return f"{size // length} {word}"
    return _count(size, "byte")
