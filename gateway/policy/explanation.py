"""What every rule says of one call, and the smallest change that would allow it (pure)."""

from collections.abc import Iterator
from typing import Literal, TypeAlias

import msgspec

from gateway.catalog.names import normalise, tool_id
from gateway.policy.judge import Facts, refusal_by
from gateway.policy.limits import in_words
from gateway.policy.rules import Rule
from gateway.policy.snapshot import AgentPermissions, Grant, Snapshot, UpstreamPermissions
from gateway.policy.values import Decision

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
    if rule.arguments is not None and facts.arguments is None:
        says, text = "depends", f"{rule.effect}, by the arguments"
    elif (refusal := refusal_by(_wordless(rule), facts, snapshot.rules, wanted)) is None:
        says, text = "nothing", f"{rule.effect}, does not refuse this call"
    else:
        says, text = ("asks" if refusal.effect == "ask" else "denies"), refusal.reason
    by_arguments = rule.arguments is not None
    limits = "" if rule.limits is None else in_words(rule.limits)
    return Saying(rule.name, rule.file, rule.line, says, text, by_arguments, rule.observe, limits)


def _wordless(rule: Rule) -> Rule:
    return msgspec.structs.replace(rule, message="")


def changes_to_allow(
    agent: AgentPermissions,
    upstream: str,
    tool: str,
    decision: Decision,
    said: tuple[Saying, ...],
) -> tuple[str, ...]:
    """What a person would have to change, all of it, for a denied call to be allowed.

    Empty where nothing is denied, or where no change of a file would do.
    """
    if decision.effect == "allow":
        return ()
    by_lists = _of_agent(agent) or tuple(_of_lists(agent, upstream, tool))
    by_rules = (_of_rule(each) for each in said if _stops(each))
    changes = (*by_lists, *by_rules, *_of_others(decision))
    return tuple(dict.fromkeys(changes))


def _of_agent(agent: AgentPermissions) -> tuple[str, ...]:
    refusal = agent.refusal
    if refusal is None:
        return ()
    return (f"mend what refuses the agent as a whole{_at(refusal)}: {refusal.text}",)


def _of_lists(agent: AgentPermissions, upstream: str, tool: str) -> Iterator[str]:
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


def _of_rule(saying: Saying) -> str:
    where = f"the rule {saying.rule!r} ({saying.file}:{saying.line})"
    if saying.by_arguments:
        return f"call it with arguments that {where} lets pass, or change that rule"
    return f"change or remove {where}"


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
