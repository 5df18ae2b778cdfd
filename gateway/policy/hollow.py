"""Rules about arguments that tools do not take: what is meant has another name (pure)."""

from collections.abc import Collection, Iterator

import msgspec

from gateway.catalog.listing import ToolEntry, UpstreamCatalog
from gateway.policy.decide import decide
from gateway.policy.rules import Rule, RuleSet, matches
from gateway.policy.snapshot import Snapshot
from gateway.policy.taken import Unknown, constraints_of, unknown_constraints
from gateway.policy.values import Action, Context


class Hollow(msgspec.Struct, frozen=True):
    """A rule, a tool that an agent would reach, and what of the rule the tool does not take."""

    rule: Rule
    agent: str
    tool: ToolEntry
    unknown: tuple[Unknown, ...]


def hollow_rules(
    snapshot: Snapshot, catalog: UpstreamCatalog, agents: Collection[str]
) -> Iterator[Hollow]:
    """The hollow rules for what `catalog` offers; a rule and a tool are told once.

    A tool that none of the agents that the rule is about may call gives no reason to complain.
    """
    rest = without_arguments(snapshot)
    reached: dict[tuple[str, str], bool] = {}
    for rule in snapshot.rules.rules:
        arguments = rule.arguments
        if arguments is None:
            continue
        constraints = constraints_of(arguments)
        about = [
            name
            for name in agents
            if not rule.agents or any(matches(pattern, name) for pattern in rule.agents)
        ]
        for entry in catalog.tools.values():
            if not any(matches(pattern, entry.tool_id) for pattern in rule.tools):
                continue
            schema = entry.definition.get("inputSchema")
            taken = schema if isinstance(schema, dict) else {}
            unknown = unknown_constraints(arguments, constraints, taken)
            for agent in about if unknown else ():
                key = (agent, entry.name)
                if key not in reached:
                    action = Action("tool", "tools/list", catalog.upstream, entry.name)
                    reached[key] = decide(agent, action, rest, Context(catalog)).effect == "allow"
                if reached[key]:
                    yield Hollow(rule, agent, entry, unknown)
                    break


def without_arguments(snapshot: Snapshot) -> Snapshot:
    """The same without pins, and without rules about arguments: what could be reached at most."""
    rules = RuleSet(rule for rule in snapshot.rules.rules if rule.arguments is None)
    return msgspec.structs.replace(snapshot, pins=None, accepted_pins=None, rules=rules)
