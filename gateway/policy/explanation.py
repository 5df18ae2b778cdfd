"""What every rule says of one call, and the smallest change that would allow it (pure)."""

from collections.abc import Collection, Iterator, Sequence
from typing import Literal, TypeAlias

import msgspec

from gateway.catalog.names import normalise, tool_id
from gateway.policy.judge import Facts, in_times, refusal_by
from gateway.policy.limits import in_words
from gateway.policy.remedy import Remedy
from gateway.policy.rules import Rule
from gateway.policy.snapshot import AgentPermissions, Grant, Snapshot, UpstreamPermissions
from gateway.policy.values import Decision
from gateway.policy.wording import arguments_in_words

Says: TypeAlias = Literal["denies", "asks", "nothing", "depends"]
"""What a rule says: "depends" where it is about arguments, and they are not known."""


class Saying(msgspec.Struct, frozen=True):
    """One rule about the agent and the tool, in its own words rather than in its `message`.

    `by_arguments`: it is about arguments. `observe`: what it refuses is only recorded. `limits`
    are those that the rule has, in words; how they stand, only the running gateway knows.
    """

    rule: str
    file: str
    line: int
    says: Says
    text: str
    by_arguments: bool
    observe: bool
    limits: str = ""


def sayings(agent: str, wanted: str, snapshot: Snapshot, facts: Facts) -> tuple[Saying, ...]:
    """What each rule about this agent and this tool id says, in the order of their places."""
    return tuple(
        _saying(rule, wanted, snapshot, facts) for rule in snapshot.rules.applying(agent, wanted)
    )


def _saying(rule: Rule, wanted: str, snapshot: Snapshot, facts: Facts) -> Saying:
    says: Says
    condition = _condition(rule)
    if rule.arguments is not None and facts.arguments is None:
        says, text = "depends", f"{_DOES[rule.effect]} {condition}"
    elif (refusal := refusal_by(_wordless(rule), facts, snapshot.rules, wanted)) is None:
        says, text = "nothing", f"{_DOES[rule.effect]} {condition}".rstrip() + _passes(rule)
    else:
        says = "asks" if refusal.effect == "ask" else "denies"
        text = refusal.reason.removeprefix(f"the rule {rule.name!r} ")
        if text.startswith(("denies ", "asks ")):
            text = f"{_DOES[rule.effect]} {condition}".rstrip()
    by_arguments = rule.arguments is not None
    limits = "" if rule.limits is None else in_words(rule.limits)
    return Saying(rule.name, rule.file, rule.line, says, text, by_arguments, rule.observe, limits)


_DOES = {"deny": "denies it", "ask": "asks a person", "allow-only-if": "allows it"}


def _condition(rule: Rule) -> str:
    """When a rule does that, in words."""
    conditions = [] if rule.when is None else [in_times(rule.when)]
    if rule.arguments is not None:
        conditions.append(f"if {arguments_in_words(rule.arguments)}")
    only = "only " if rule.effect == "allow-only-if" and conditions else ""
    return only + ", ".join(conditions)


def _passes(rule: Rule) -> str:
    if rule.effect == "allow-only-if":
        return "" if rule.limits is not None and rule.arguments is None else ": so it is"
    return ": not this call"


def _wordless(rule: Rule) -> Rule:
    return msgspec.structs.replace(rule, message="")


def changes_to_allow(
    agent: AgentPermissions,
    upstream: str,
    tool: str,
    known: Collection[str],
    decision: Decision,
    said: tuple[Saying, ...],
    found: Remedy,
) -> tuple[str, ...]:
    """What a person would have to change, all of it, for a denied call to be allowed.

    Empty where nothing is denied, or where no change of a file would do. `found` are edits of
    the call, `known` the configured upstreams.
    """
    if decision.effect == "allow":
        return ()
    by_lists = _of_agent(agent) or tuple(_of_lists(agent, upstream, tool, known))
    by_rules = _of_rules([each for each in said if _stops(each)], found)
    changes = (*by_lists, *by_rules, *_of_others(decision))
    return tuple(dict.fromkeys(changes))


def _of_agent(agent: AgentPermissions) -> tuple[str, ...]:
    refusal = agent.refusal
    if refusal is None:
        return ()
    return (f"mend what refuses the agent as a whole{_at(refusal)}: {refusal.text}",)


def _of_lists(
    agent: AgentPermissions, upstream: str, tool: str, known: Collection[str]
) -> Iterator[str]:
    if upstream not in known:
        yield f"configure an upstream {upstream!r}, or correct the tool id"
    here = agent.upstreams.get(upstream, UpstreamPermissions())
    spelling, wanted = normalise(tool), tool_id(upstream, tool)
    if here.declared.find(spelling) is None:
        yield f"add {wanted} to the agent's tools ({agent.file}:{agent.line})"
    refused = here.disallowed.find(spelling)
    if refused is not None:
        yield f"take {refused.text} out of what is disallowed{_at(refused)}"
    if here.ceiling is not None and here.ceiling.find(spelling) is None:
        where = _at(agent.ceiling) if agent.ceiling is not None else ""
        yield f"add {wanted} to the operator's max_tools{where}"


def _stops(saying: Saying) -> bool:
    return saying.says in ("denies", "asks") and not saying.observe


def _of_rules(said: Sequence[Saying], found: Remedy) -> Iterator[str]:
    mended = [each for each in said if each.by_arguments and each.rule not in found.stuck]
    if mended and found.edits:
        call = " and ".join(edit.text for edit in found.edits)
        yield f"in the call, {call}; or {' and '.join(map(_change, mended))}"
    for each in said:
        if each.says == "asks":
            yield f"have a person approve it, or {_change(each)}"
        elif not each.by_arguments:
            yield _change(each)
        elif each not in mended or not found.edits:
            where = f"({each.file}:{each.line})"
            yield f"call it as the rule {each.rule!r} {where} demands, or change that rule"


def _change(saying: Saying) -> str:
    # What is shipped is the same everywhere; a copy of it can be named in its place.
    copy = " in a copy of the pack" if saying.file.startswith("pack:") else ""
    return f"change or remove the rule {saying.rule!r} ({saying.file}:{saying.line}){copy}"


def _of_others(decision: Decision) -> Iterator[str]:
    """What neither lists nor rules say."""
    if decision.rule == "trust":
        yield "have a person accept it: gateway trust"
    elif decision.rule == "pin":
        yield "have a person look at the change and accept it: gateway pin --review"
    elif decision.rule == "not offered":
        yield "name a tool that the upstream offers"
    elif decision.rule == "withheld":
        yield "remove the reason for which the tool is withheld"


def _at(grant: Grant) -> str:
    return f" ({grant.file}:{grant.line})" if grant.file else ""
