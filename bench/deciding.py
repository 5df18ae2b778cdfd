"""What deciding one call costs with many rules: `python -m bench.deciding`.

A thousand rules about arguments, five of which apply to the call; no guards.
"""

import sys
import time

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
_CALLS = 20_000
_ROUNDS = 5
_AGENT = b"---\nname: dev\ndescription: Works.\ntools: mcp__db__query, mcp__db__plain\n---\n"
_LIMITS = {
    "properties": {
        "table": {"enum": ["orders", "customers"]},
        "name": {"pattern": "[a-z]{1,20}"},
        "limit": {"maximum": 1000},
    }
}
_ARGUMENTS = {"table": "orders", "name": "north", "limit": 50}


def measure(tool: str) -> float:
    """Microseconds for one call of a tool of an upstream `db`, the best of several rounds."""
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
    best = float("inf")
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        for _ in range(_CALLS):
            decision = decide("dev", action, snapshot, Context(catalog, arguments=_ARGUMENTS))
        best = min(best, time.perf_counter() - started)
        assert decision.allows, decision.reason
    return best / _CALLS * 1e6


if __name__ == "__main__":
    sys.stdout.write(
        f"{RULES} rules, {APPLYING} of them about the call: {measure('query'):.1f} us a decision\n"
        f"{RULES} rules, none about the call: {measure('plain'):.1f} us a decision\n"
    )
