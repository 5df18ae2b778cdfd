"""Properties of every set of rules, however it was made."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.compile import Rules, compile_snapshot
from gateway.policy.decide import decide
from gateway.policy.limits import Limit, Limits
from gateway.policy.rules import Rule, When
from gateway.policy.snapshot import Snapshot, UpstreamTraits
from gateway.policy.values import Action, Context, Decision
from tests.policy.ruling import offered, rule
from tests.policy.servers import agent

_SCHEMAS: tuple[dict[str, Any] | None, ...] = (
    None,
    {"properties": {"table": {"enum": ["orders", "users"]}}},
    {"properties": {"limit": {"maximum": 5}}},
    {"anyOf": [{"properties": {"force": {"const": True}}}, {"required": ["limit"]}]},
    {"properties": {"nothing": {"const": 1}}},
)
_WHENS = (
    None,
    When(days=(0, 1, 2)),
    When(hours=((1320, 360),), timezone="Europe/Berlin"),
    When(identified=("token",)),
    When(upstreams=("db", "y")),
    When(upstreams=("x",), days=(0, 1)),
    When(days=(5,), timezone="No/Where"),
)
_made = st.tuples(
    st.sampled_from(("deny", "ask", "allow-only-if")),
    st.lists(
        st.sampled_from(
            ("mcp__db__query", "mcp__db__*", "mcp__*", "*", "mcp__db__dr*", "mcp__x__*")
        ),
        min_size=1,
        max_size=2,
    ),
    st.sampled_from(((), ("a",), ("b",), ("*",))),
    st.sampled_from(_SCHEMAS),
    st.sampled_from(_WHENS),
    st.sampled_from((False, False, True)),
    st.sampled_from((None, Limits((Limit("calls", 1, 60), Limit("in_flight", 2))))),
)


def _rules(made: list[Any]) -> list[Rule]:
    return [
        rule(
            f"r{n}",
            effect,
            tools=tools,
            agents=agents,
            schema=schema,
            when=when,
            observe=observe,
            limits=limits if effect == "allow-only-if" else None,
            line=n,
        )
        for n, (effect, tools, agents, schema, when, observe, limits) in enumerate(made)
    ]


_sets = st.lists(_made, max_size=5).map(_rules)
_declared = st.lists(
    st.sampled_from(("mcp__db", "mcp__db__query", "mcp__db__drop", "mcp__x__y")), unique=True
)
_arguments = st.fixed_dictionaries(
    {},
    optional={
        "table": st.sampled_from(("orders", "users", "x", 3)),
        "limit": st.integers(0, 9),
        "force": st.booleans(),
        "other": st.none(),
    },
)
_context = st.builds(
    dict,
    arguments=_arguments,
    now=st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),
    means=st.sampled_from(("token", "process", "")),
)


def _snapshot(
    declared: list[str], rules: list[Rule], accepted: list[Rule] | None = None
) -> Snapshot:
    definition = agent(declared)
    return compile_snapshot(
        Rules([definition], policies=rules),
        {"db": UpstreamTraits()},
        "digest",
        accepted=None if accepted is None else Rules([definition], policies=accepted),
    )


def _call(snapshot: Snapshot, tool: str, context: dict[str, Any], method: str = "") -> Decision:
    action = Action("tool", method or "tools/call", "db", tool)
    return decide("a", action, snapshot, Context(offered(), **context))


_WEIGHT = {"allow": 0, "ask": 1, "deny": 2}


@settings(deadline=None)
@given(_declared, _sets, _context, st.sampled_from(("query", "drop")))
def test_no_rules_let_an_agent_reach_what_it_does_not_declare(
    declared: list[str], rules: list[Rule], context: dict[str, Any], tool: str
) -> None:
    if _call(_snapshot(declared, rules), tool, context).allows:
        assert _call(_snapshot(declared, []), tool, context).allows
        assert {"mcp__db", f"mcp__db__{tool}"} & set(declared)


@settings(deadline=None)
@given(_sets, _made, _context, st.sampled_from(("query", "drop")))
def test_a_further_rule_never_lets_anything_through(
    rules: list[Rule], made: Any, context: dict[str, Any], tool: str
) -> None:
    (further,) = _rules([made])
    before = _call(_snapshot(["mcp__db"], rules), tool, context)
    after = _call(_snapshot(["mcp__db"], [further, *rules]), tool, context)
    if before.refuses:
        assert after.refuses
        assert _WEIGHT[after.effect] >= _WEIGHT[before.effect]


@settings(deadline=None)
@given(_sets.flatmap(lambda rules: st.tuples(st.just(rules), st.permutations(rules))), _context)
def test_the_order_of_rules_does_not_matter(
    orders: tuple[list[Rule], list[Rule]], context: dict[str, Any]
) -> None:
    one, other = (_snapshot(["mcp__db"], rules) for rules in orders)
    for tool in ("query", "drop"):
        assert _call(one, tool, context) == _call(other, tool, context)


@settings(deadline=None)
@given(_sets, _context)
def test_a_listing_shows_what_could_be_called(rules: list[Rule], context: dict[str, Any]) -> None:
    unconditional = [each for each in rules if each.arguments is None and each.when is None]
    for tool in ("query", "drop"):
        plain = _snapshot(["mcp__db"], unconditional)
        listed = _call(plain, tool, {}, "tools/list").allows
        assert listed == _call(plain, tool, context).allows
        # Whatever else a rule depends on, nothing that can be called is hidden.
        whole = _snapshot(["mcp__db"], rules)
        if _call(whole, tool, context).allows:
            assert _call(whole, tool, {}, "tools/list").allows


@settings(deadline=None)
@given(_sets, _sets, _context)
def test_what_is_not_accepted_allows_no_more_than_either_form(
    now: list[Rule], accepted: list[Rule], context: dict[str, Any]
) -> None:
    both = _call(_snapshot(["mcp__db"], now, accepted), "query", context)
    apart = [_call(_snapshot(["mcp__db"], rules), "query", context) for rules in (now, accepted)]
    assert both.allows == all(each.allows for each in apart)
