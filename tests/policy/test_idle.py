"""Rules that do nothing are found; none that does something is called idle."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.catalog.listing import build_catalog
from gateway.policy.compile import Rules, compile_snapshot
from gateway.policy.idle import contradicts_itself, never_reached, shadows, without_tool
from gateway.policy.judge import Facts, judge
from gateway.policy.limits import Limit, Limits
from gateway.policy.rules import Rule, RuleSet, When
from gateway.policy.snapshot import Snapshot, UpstreamTraits
from tests.policy.ruling import offered, rule, ruled
from tests.policy.servers import agent, operator

ORDERS = {"properties": {"table": {"const": "orders"}}}
LATE = When(hours=((1200, 1320),))


class TestNeverReached:
    def snapshot(self, *rules: Rule, tools: tuple[str, ...] = ("mcp__db__query",)) -> Snapshot:
        return compile_snapshot(
            Rules([agent(list(tools))], policies=rules),
            {"db": UpstreamTraits(), "web": UpstreamTraits()},
            "digest",
        )

    @pytest.mark.parametrize(
        ("declared", "about", "idle"),
        [
            (("mcp__db__query",), {"tools": ("mcp__db__query",)}, False),
            (("mcp__db__query",), {"tools": ("mcp__db__q*",)}, False),
            (("mcp__db__query",), {"tools": ("mcp__db__drop",)}, True),
            (("mcp__db__query",), {"tools": ("mcp__web__*",)}, True),
            (("mcp__db",), {"tools": ("mcp__db__drop",)}, False),
            (("mcp__db__query",), {"agents": ("a*",)}, False),
            (("mcp__db__query",), {"agents": ("b*",)}, True),
            (("mcp__db__query",), {"tools": ("mcp__web__*", "mcp__db__*")}, False),
        ],
    )
    def test_by_what_the_agents_declare(
        self, declared: tuple[str, ...], about: dict[str, Any], idle: bool
    ) -> None:
        found = list(never_reached(self.snapshot(rule(**about), tools=declared), {}))
        assert bool(found) == idle

    def test_what_is_disallowed_or_over_the_ceiling_is_not_reached(self) -> None:
        for definition, operators in (
            (agent(["mcp__db"], disallowed=["mcp__db__drop"]), {}),
            (agent(["mcp__db"]), operator("mcp__db__query")),
        ):
            made = compile_snapshot(
                Rules([definition], operators, policies=[rule(tools=("mcp__db__drop",))]),
                {"db": UpstreamTraits()},
                "digest",
            )
            known = {"db": offered()}
            assert [each.name for each in never_reached(made, known)] == ["r"]

    def test_what_is_not_offered_is_not_reached(self) -> None:
        made = ruled(rule(tools=("mcp__db__delete*",)))
        assert not list(never_reached(made, {}))
        assert list(never_reached(made, {"db": offered()}))

    def test_an_upstream_that_offers_nothing_reaches_nothing(self) -> None:
        assert list(never_reached(ruled(rule()), {"db": build_catalog("db", [])}))

    def test_a_rule_that_bars_a_tool_is_not_idle_for_that(self) -> None:
        assert not list(never_reached(ruled(rule(), rule("s", "ask")), {"db": offered()}))


class TestWithoutTool:
    def test_an_entry_that_matches_nothing_offered_is_told(self) -> None:
        about = rule(tools=("mcp__db__query", "mcp__db__qeury", "mcp__db__x*"))
        found = without_tool(about, ruled(about), {"db": offered()})
        assert found == ("mcp__db__qeury", "mcp__db__x*")

    def test_nothing_is_said_where_an_upstream_was_not_asked(self) -> None:
        about = rule(tools=("mcp__*__nothing",))
        assert without_tool(about, ruled(about), {}) == ()


class TestContradictions:
    @pytest.mark.parametrize(
        "schema",
        [
            {"properties": {"table": {"enum": []}}},
            {"properties": {"table": {"enum": ["a", "b"], "pattern": "^c.*"}}},
            {"properties": {"table": {"const": 5, "type": "string"}}},
            {"properties": {"limit": {"type": "integer", "minimum": 6, "maximum": 5}}},
            {"properties": {"table": {"type": "string", "minLength": 6, "maxLength": 5}}},
            {"properties": {"table": False}, "required": ["table"]},
            {"allOf": [{}, {"properties": {"table": {"const": 5, "maximum": 4}}}]},
            {"anyOf": [{"properties": {"table": {"enum": []}}}] * 2},
            {"properties": {"x": {"type": "object", "properties": {"y": {"enum": []}}}}},
            {"minProperties": 3, "maxProperties": 2},
        ],
    )
    def test_are_found(self, schema: dict[str, Any]) -> None:
        for effect in ("deny", "allow-only-if"):
            assert contradicts_itself(rule("r", effect, schema=schema)), effect

    def test_what_is_required_and_not_listed_cannot_be_where_nothing_else_may(self) -> None:
        schema = {"properties": {"table": {}}, "required": ["limit"]}
        assert contradicts_itself(rule("r", "allow-only-if", schema=schema))
        assert not contradicts_itself(rule("r", "deny", schema=schema))

    @pytest.mark.parametrize(
        "schema",
        [
            ORDERS,
            {"properties": {"table": {"enum": ["a", "b"], "pattern": "^b.*"}}},
            {"properties": {"limit": {"minimum": 5, "maximum": 5}}},
            {"anyOf": [{"properties": {"table": {"enum": []}}}, {}]},
            {"not": {"properties": {"table": {"enum": []}}}},
        ],
    )
    def test_are_not_found_where_there_are_none(self, schema: dict[str, Any]) -> None:
        for effect in ("deny", "allow-only-if"):
            assert not contradicts_itself(rule("r", effect, schema=schema)), effect

    def test_a_denial_matches_values_of_other_types(self) -> None:
        schema = {"properties": {"limit": {"minimum": 6, "maximum": 5}}}
        assert not contradicts_itself(rule("r", "deny", schema=schema))
        assert contradicts_itself(rule("r", "allow-only-if", schema=schema))


class TestShadows:
    def found(self, *rules: Rule) -> list[tuple[str, str]]:
        return [(each.rule.name, each.by.name) for each in shadows(RuleSet(rules).rules)]

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ({}, {"schema": ORDERS}),
            ({}, {"when": LATE}),
            ({}, {"effect": "ask"}),
            ({}, {"effect": "allow-only-if", "schema": ORDERS}),
            ({}, {"effect": "allow-only-if", "limits": Limits((Limit("calls", 1, 60),))}),
            ({"tools": ("mcp__db__*",)}, {}),
            ({"tools": ("mcp__*",)}, {"tools": ("mcp__db__*", "mcp__web__get")}),
            ({}, {"agents": ("a",)}),
            ({"agents": ("a*",)}, {"agents": ("a", "ab*")}),
            ({"schema": ORDERS}, {"schema": ORDERS, "effect": "ask"}),
            ({"schema": ORDERS, "when": LATE}, {"schema": ORDERS, "when": LATE, "message": "m"}),
            ({}, {"observe": True}),
        ],
    )
    def test_a_rule_that_another_makes_superfluous(
        self, one: dict[str, Any], other: dict[str, Any]
    ) -> None:
        assert self.found(rule("one", line=1, **one), rule("other", line=2, **other)) == [
            ("other", "one")
        ]

    @pytest.mark.parametrize("line", [1, 3])
    def test_of_two_that_say_the_same_the_latter(self, line: int) -> None:
        found = self.found(rule("one", line=2, message="m"), rule("other", line=line))
        assert found == [("one", "other") if line == 1 else ("other", "one")]

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ({"observe": True}, {}),
            ({"schema": ORDERS}, {}),
            ({"tools": ("mcp__db__*",)}, {"tools": ("mcp__*",)}),
            ({"agents": ("a",)}, {}),
            ({"agents": ("a",)}, {"agents": ("a", "b")}),
            ({"effect": "ask"}, {}),
            ({"former": True}, {}),
            ({"effect": "ask"}, {"effect": "allow-only-if", "schema": ORDERS}),
            (
                {"effect": "allow-only-if", "limits": Limits((Limit("calls", 1, 60),))},
                {"effect": "allow-only-if", "limits": Limits((Limit("calls", 2, 60),))},
            ),
        ],
    )
    def test_one_that_is_not(self, one: dict[str, Any], other: dict[str, Any]) -> None:
        names = [name for name, _ in self.found(rule("one", **one), rule("other", line=2, **other))]
        assert "other" not in names

    PATTERNS = st.sampled_from(("mcp__db__*", "mcp__db__query", "mcp__*", "*", "mcp__db__q*y"))
    RULES = st.lists(
        st.builds(
            rule,
            name=st.sampled_from("abcdefgh"),
            effect=st.sampled_from(("deny", "ask", "allow-only-if")),
            tools=st.lists(PATTERNS, min_size=1, max_size=2),
            agents=st.sampled_from(((), ("a",), ("*",), ("a", "b"))),
            schema=st.just(ORDERS),
            line=st.integers(1, 9),
        )
        | st.builds(rule, name=st.sampled_from("ijkl"), tools=st.lists(PATTERNS, min_size=1)),
        max_size=6,
        unique_by=lambda each: each.name,
    )

    @given(RULES, st.sampled_from(("orders", "users")))
    def test_without_them_the_same_is_refused(self, rules: list[Rule], table: str) -> None:
        idle = {each.rule.name for each in shadows(RuleSet(rules).rules)}
        left = [each for each in rules if each.name not in idle]
        for who in ("a", "b"):
            for wanted in ("mcp__db__query", "mcp__db__quay", "mcp__web__get"):
                verdicts = []
                for chosen in (rules, left):
                    whole = RuleSet(chosen)
                    facts = Facts(arguments={"table": table})
                    refusal = judge(whole.applying(who, wanted), facts, whole, wanted)
                    verdicts.append(None if refusal is None else refusal.effect)
                assert verdicts[0] == verdicts[1]
