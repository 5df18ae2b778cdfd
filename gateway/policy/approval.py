"""Approvals: what a person's answer covers, and which answers count at all (pure).

An approval lifts `ask`, and nothing else: `decide` is called again with it, on the snapshot that
is then in force.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Literal, TypeAlias

import msgspec

from gateway.policy.rules import Rule

Way: TypeAlias = Literal["client", "command", "console"]
"""How a person answers: asked by the client, by `gateway approvals`, on the console."""
Known: TypeAlias = Literal["authenticated", "client-asserted"]
"""How the person is known: by the gateway itself, or because the client says that one agreed."""

_MINUTES = re.compile(r"([1-9][0-9]{0,3})m")


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration says of approvals.

    `by` are the ways that count. `remember` is for how long an answer may hold: "call", "session"
    or minutes ("15m"). `max_held` calls wait at most.
    """

    by: tuple[Way, ...] = ("command", "console")
    timeout_s: float = 300.0
    remember: tuple[str, ...] = ("call", "session", "15m")
    max_held: int = 64


class Bound(msgspec.Struct, frozen=True):
    """The very call that a person is asked about.

    `identified` is how the agent is known, `arguments` a keyed digest of them, "" where there can
    be none. `rules` are the keys of those that ask.
    """

    agent: str
    identified: str
    upstream: str
    tool: str
    arguments: str
    rules: tuple[str, ...]


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a question to a person; it counts until `until` only.

    `refusal` is set where it is not an approval: why the call must not happen.
    """

    id: str
    bound: Bound
    way: Way = "command"
    known: Known = "authenticated"
    until: datetime | None = None
    refusal: str = ""


def rule_key(rule: Rule) -> str:
    """A digest of what a rule says, wherever it stands: a rule that is changed is another one."""
    return sha256(msgspec.msgpack.encode(rule.meaning, order="deterministic")).hexdigest()[:32]


def rule_keys(asking: Sequence[Rule]) -> tuple[str, ...]:
    """The keys of rules that ask, in an order of their own."""
    return tuple(sorted({rule_key(rule) for rule in asking}))


def ways(asking: Sequence[Rule], terms: Terms) -> tuple[Way, ...]:
    """The ways in which an answer to these rules counts."""
    strict = any(rule.approval == "authenticated" for rule in asking)
    return tuple(way for way in terms.by if not (strict and way == "client"))


def covers(
    approval: Approval, bound: Bound, asking: Sequence[Rule], terms: Terms, now: datetime | None
) -> bool:
    """Whether a person approved this very call, in a way that counts still, and not too long ago.

    Every rule that asks now must have been among those that asked then.
    """
    if approval.refusal or not bound.arguments or approval.until is None or now is None:
        return False
    if now.tzinfo is None or now > approval.until:
        return False
    if approval.way not in ways(asking, terms):
        return False
    if (approval.known == "client-asserted") != (approval.way == "client"):
        return False
    then = msgspec.structs.replace(approval.bound, rules=())
    return then == msgspec.structs.replace(bound, rules=()) and set(bound.rules) <= set(
        approval.bound.rules
    )


def minutes(remember: str) -> int | None:
    """The minutes that an answer is to hold for, None where it names none."""
    found = _MINUTES.fullmatch(remember)
    return int(found[1]) if found is not None else None
