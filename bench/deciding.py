"""What deciding one call costs with many rules: `make bench ARGS=policies`.

A thousand rules about arguments, five of which apply to the call; no guards.
"""

import statistics
import time
from typing import NamedTuple

from gateway.agents import read_definition
from gateway.catalog.listing import build_catalog
from gateway.policy.compile import Rules, compile_snapshot
from gateway.policy.decide import decide
from gateway.policy.rules import ArgumentRule, Rule
from gateway.policy.schemas import read_schema
from gateway.policy.snapshot import UpstreamTraits
from gateway.policy.values import Action, Context

RULES = 1_000
APPLYING = 5
_CALLS = 2_000
_ROUNDS = 40
_AGENT = b"---\nname: dev\ndescription: Works.\ntools: mcp__db__query, mcp__db__plain\n---\n"
_LIMITS = {
    "properties": {
        "table": {"enum": ["orders", "customers"]},
        "name": {"pattern": "[a-z]{1,20}"},
        "limit": {"maximum": 1000},
    }
}
_ARGUMENTS = {"table": "orders", "name": "north", "limit": 50}


class Taken(NamedTuple):
    """Microseconds for one call: the least and the middle of several rounds."""

    least_us: float
    median_us: float

    def __str__(self) -> str:
        return f"{self.least_us:.1f} us at least, {self.median_us:.1f} us in the middle"


def measure(tool: str) -> Taken:
    """What a call of a tool of an upstream `db` costs."""
    limits = read_schema(_LIMITS, effect="allow-only-if", line=1)
    assert isinstance(limits, ArgumentRule)
    rules = [
        Rule(
            name=f"rule-{number}",
            file="policies/bench.yaml",
            line=number,
            effect="allow-only-if",
            tools=("mcp__db__quer*" if number < APPLYING else f"mcp__db__t{number}*",),
            arguments=limits,
        )
        for number in range(RULES)
    ]
    definition = read_definition(_AGENT, path="dev.md")
    assert definition is not None
    snapshot = compile_snapshot(
        Rules([definition], policies=rules), {"db": UpstreamTraits()}, "digest"
    )
    schema: dict[str, object] = {"properties": {key: {} for key in _ARGUMENTS}}
    catalog = build_catalog(
        "db", [{"name": name, "inputSchema": schema} for name in ("query", "plain")]
    )
    action = Action("tool", "tools/call", "db", tool)
    rounds = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        for _ in range(_CALLS):
            decision = decide("dev", action, snapshot, Context(catalog, arguments=_ARGUMENTS))
        rounds.append((time.perf_counter() - started) / _CALLS * 1e6)
        assert decision.allows, decision.reason
    return Taken(min(rounds), statistics.median(rounds))
