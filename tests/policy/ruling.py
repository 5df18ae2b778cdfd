"""Rules in few words: what the tests of policies share."""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.catalog.listing import UpstreamCatalog, build_catalog
from gateway.policy.compile import Rules, compile_snapshot
from gateway.policy.decide import decide
from gateway.policy.rules import ArgumentRule, Rule, RuleEffect, Unlisted
from gateway.policy.schemas import read_schema
from gateway.policy.snapshot import Snapshot, UpstreamTraits
from gateway.policy.values import Action, Context, Decision
from tests.policy.servers import agent

TAKEN = {"table": {"type": "string"}, "limit": {"type": "integer"}, "force": {"type": "boolean"}}
QUERY = {"name": "query", "inputSchema": {"type": "object", "properties": TAKEN}}


def limits(
    schema: Mapping[str, object],
    effect: RuleEffect = "allow-only-if",
    *,
    unlisted: Unlisted = "refuse",
    optional: Sequence[str] = (),
) -> ArgumentRule:
    """An argument rule, read as from line 7 of a file."""
    found = read_schema(schema, effect=effect, line=7, unlisted=unlisted, optional=optional)
    assert isinstance(found, ArgumentRule), found
    return found


def rule(
    name: str = "r",
    effect: RuleEffect = "deny",
    *,
    tools: Sequence[str] = ("mcp__db__query",),
    schema: Mapping[str, object] | None = None,
    line: int = 1,
    file: str = "policies/p.yaml",
    **more: Any,
) -> Rule:
    """A rule about `mcp__db__query` unless said otherwise."""
    arguments = None if schema is None else limits(schema, effect)
    return Rule(
        name=name,
        file=file,
        line=line,
        effect=effect,
        tools=tuple(tools),
        **{"arguments": arguments, **more},
    )


def ruled(*rules: Rule, accepted: Sequence[Rule] | None = None, observe: bool = False) -> Snapshot:
    """The agent `a`, which declares all of `db`, under these rules."""
    definition = agent(["mcp__db"])
    before = None if accepted is None else Rules([definition], policies=accepted)
    return compile_snapshot(
        Rules([definition], policies=rules),
        {"db": UpstreamTraits()},
        "digest",
        accepted=before,
        observe=observe,
    )


def offered() -> UpstreamCatalog:
    return build_catalog("db", [QUERY, {"name": "drop", "inputSchema": {}}])


def query(
    snapshot: Snapshot,
    arguments: Mapping[str, object] | None = None,
    *,
    method: str = "tools/call",
    **context: Any,
) -> Decision:
    """The decision on a call of `query` by the agent `a`."""
    given = {} if arguments is None and method == "tools/call" else arguments
    action = Action("tool", method, "db", "query")
    return decide(
        "a", action, snapshot, Context(**{"catalog": offered(), **context}, arguments=given)
    )
