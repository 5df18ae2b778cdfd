"""What rules mean for one call: the most restrictive of them holds, whatever their order (pure)."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from gateway.catalog.listing import ToolEntry
from gateway.policy.arguments import matcher, named, not_taken
from gateway.policy.rules import ArgumentRule, Rule, RuleSet, When, with_standing


class Facts(msgspec.Struct, frozen=True):
    """What rules may see of a call.

    `listing`: it is asked what could be called at all, so neither arguments nor time are known, and
    a condition on them refuses nothing. `entry` is the tool as its upstream offers it, if known.
    `answers` are those of slow guards (`gateway.policy.arguments.slow_jobs`). `approved`: what asks
    a person has been answered.
    """

    arguments: Mapping[str, object] | None = None
    now: datetime | None = None
    means: str = ""
    listing: bool = False
    entry: ToolEntry | None = None
    answers: Mapping[Any, str | None] = {}
    approved: bool = False
    upstream: str = ""


class _Unknown(Exception):  # noqa: N818 - says what is unknown
    """A rule asks about something that is not known of this call."""


class Refusal(msgspec.Struct, frozen=True):
    """What one rule says against a call. `reason` is a sentence for the model, without its end."""

    rule: Rule
    effect: Literal["ask", "deny"]
    reason: str


def judge(
    applying: Iterable[Rule], facts: Facts, rules: RuleSet, tool_id: str = ""
) -> Refusal | None:
    """The refusal that counts, None where no rule refuses; those of `rules` apply to the call.

    An enforced one before one that is only observed, `deny` before `ask`, then the first by place.
    """
    worst: Refusal | None = None
    for rule in applying:
        refusal = refusal_by(rule, facts, rules, tool_id)
        if refusal is not None and refusal.effect == "ask" and facts.approved and not rule.observe:
            continue
        # Mutants: `<=` is the same, since no two rules stand at one place.
        if refusal is not None and (worst is None or _weight(refusal) < _weight(worst)):
            worst = refusal
    return worst


def asking(
    applying: Iterable[Rule], facts: Facts, rules: RuleSet, tool_id: str = ""
) -> tuple[Rule, ...]:
    """Every enforced rule that asks a person for the call, in the order of their places."""
    refusals = (refusal_by(rule, facts, rules, tool_id) for rule in applying if not rule.observe)
    return tuple(each.rule for each in refusals if each is not None and each.effect == "ask")


def refusal_by(rule: Rule, facts: Facts, rules: RuleSet, tool_id: str = "") -> Refusal | None:
    """What a single rule says against a call, None where nothing; what fails refuses."""
    try:
        why = _refused(rule, facts, rules, tool_id)
    except _Unknown as error:
        why = f"the rule {rule.name!r} refuses, because {error}"
        return Refusal(rule, "deny", _with_standing(why, rule))
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not let anything through
        why = f"the rule {rule.name!r} cannot be judged ({type(error).__name__}), so it refuses"
        return Refusal(rule, "deny", _with_standing(why, rule))
    if why is None:
        return None
    effect: Literal["ask", "deny"] = "ask" if rule.effect == "ask" else "deny"
    reason = rule.message.strip().rstrip(".") or why
    if effect == "ask" and rule.message:
        reason = f"{reason} (the rule {rule.name!r} asks a person)"
    return Refusal(rule, effect, _with_standing(reason, rule))


def _weight(refusal: Refusal) -> tuple[bool, bool, tuple[str, int, str]]:
    return refusal.rule.observe, refusal.effect == "ask", refusal.rule.place


def _with_standing(reason: str, rule: Rule) -> str:
    return with_standing(reason, former=rule.former)


def _refused(rule: Rule, facts: Facts, rules: RuleSet, tool_id: str) -> str | None:
    """Why a rule refuses; a condition is met, not met, or not known in a listing."""
    due = _is_due(rule.when, facts)
    if rule.effect == "allow-only-if":
        if due is False:
            return f"the rule {rule.name!r} allows {tool_id} {in_times(rule.when)} only"
        if rule.arguments is None:
            return None
        hollow = _hollow(rule, rule.arguments, facts, rules)
        if hollow or facts.listing:
            return hollow
        compiled, arguments = matcher(rule.arguments, rules), _known(facts.arguments)
        if compiled.matches(arguments, facts.answers):
            return None
        why = compiled.mismatch(arguments, facts.answers)
        return f"the rule {rule.name!r} refuses it: {why}"
    if due is not True:
        return None
    if rule.arguments is not None:
        hollow = _hollow(rule, rule.arguments, facts, rules)
        if hollow or facts.listing:
            return hollow
        arguments = _known(facts.arguments)
        if not matcher(rule.arguments, rules).matches(arguments, facts.answers):
            return None
    with_such = " with such arguments" if rule.arguments is not None else ""
    if rule.when is not None:
        with_such += f" {in_times(rule.when)}"
    if rule.effect == "ask":
        return f"the rule {rule.name!r} asks a person for {tool_id}{with_such}"
    return f"the rule {rule.name!r} denies {tool_id}{with_such}"


def _hollow(rule: Rule, arguments: ArgumentRule, facts: Facts, rules: RuleSet) -> str | None:
    """Why a rule about arguments is none for this tool."""
    if facts.entry is None:
        return None
    unknown = not_taken(arguments, facts.entry, rules, listing=facts.listing)
    if not unknown:
        return None
    return (
        f"the rule {rule.name!r} is about {named(unknown)}, which {facts.entry.tool_id} does not "
        "take, so it refuses; a person must correct the rule"
    )


def _known(arguments: Mapping[str, object] | None) -> Mapping[str, object]:
    if arguments is None:
        raise _Unknown("the arguments are not known")
    return arguments


def _is_due(when: When | None, facts: Facts) -> bool | None:
    """Whether time and caller are as a rule says; None where that is not known."""
    if when is None:
        return True
    if when.upstreams and facts.upstream not in when.upstreams:
        return False
    if facts.listing and when.varies:
        return None
    if when.identified and facts.means not in when.identified:
        if not facts.means:
            raise _Unknown("it is not known how the caller is identified")
        return False
    if not when.days and not when.hours:
        return True
    if facts.now is None or facts.now.tzinfo is None:
        raise _Unknown("the time is not known")
    return _is_in(when, facts.now)


def _is_in(when: When, now: datetime) -> bool:
    from zoneinfo import ZoneInfo

    local = now.astimezone(ZoneInfo(when.timezone))
    minute = local.hour * 60 + local.minute
    today, yesterday = local.weekday(), (local - timedelta(days=1)).weekday()
    if not when.hours:
        return today in when.days
    for start, end in when.hours:
        # Mutants: `<=` is the same, since a span that ends when it begins is refused when read.
        if start < end:
            if start <= minute < end and _on(when, today):
                return True
        elif (minute >= start and _on(when, today)) or (minute < end and _on(when, yesterday)):
            return True
    return False


def _on(when: When, day: int) -> bool:
    return not when.days or day in when.days


DAYS: Sequence[str] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def in_times(when: When | None) -> str:
    """The condition in words."""
    if when is None:
        return ""
    parts = []
    if when.days:
        parts.append("on " + ", ".join(DAYS[day] for day in when.days))
    if when.hours:
        parts.append("at " + ", ".join(f"{_clock(a)}-{_clock(b)}" for a, b in when.hours))
    if parts:
        parts[-1] += f" ({when.timezone})"
    if when.upstreams:
        parts.append("on " + " and ".join(map(repr, when.upstreams)))
    if when.identified:
        parts.append("to callers known by " + ", ".join(when.identified))
    return " ".join(parts)


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
