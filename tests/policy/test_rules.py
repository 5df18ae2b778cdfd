"""Which rules apply to an agent and a tool."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.limits import Limit, Limits
from gateway.policy.rules import RuleSet, could_match, matches, with_former
from tests.policy.ruling import rule

FEW = Limits((Limit("calls", 1, 60),))
_texts = st.text("ab*_", max_size=8)


class TestPatterns:
    @given(_texts, st.text("ab_\n", max_size=10))
    def test_a_star_is_any_text_and_all_else_itself(self, pattern: str, name: str) -> None:
        expression = ".*".join(map(re.escape, pattern.split("*")))
        assert matches(pattern, name) == bool(re.fullmatch(expression, name, re.DOTALL))

    @pytest.mark.parametrize(
        ("pattern", "name", "said"),
        [
            ("a*b*b*c", "abc", False),
            ("a*b*b*c", "abbc", True),
            ("*ab*ab*", "ab", False),
            ("*ab*ab*", "aab", False),
            ("*ab*ab*", "abab", True),
            ("*ba*ab", "bab", False),
            ("*ba*ab", "baab", True),
            ("ab*ab", "ab", False),
            ("ab*bc", "abc", False),
            ("ab*bc", "abbc", True),
        ],
    )
    def test_no_character_is_taken_twice(self, pattern: str, name: str, said: bool) -> None:
        assert matches(pattern, name) is said

    @given(_texts, st.text("ab_", max_size=3), st.text("ab_", min_size=1, max_size=6))
    def test_what_matches_under_a_prefix_could(self, pattern: str, prefix: str, rest: str) -> None:
        if matches(pattern, prefix + rest):
            assert could_match(pattern, prefix)

    def test_the_prefix_itself_is_no_tool(self) -> None:
        prefix = "mcp__db__"
        assert not could_match("".join(["mcp__", "db__"]), prefix)

    @pytest.mark.parametrize("pattern", ["mcp__db", "mcp__db__", "mcp__other__*", "mcp__dbx*", ""])
    def test_what_no_tool_of_the_upstream_can_be(self, pattern: str) -> None:
        assert not could_match(pattern, "mcp__db__")

    @pytest.mark.parametrize("pattern", ["*", "mcp__*", "mcp__d*", "mcp__db__q", "mcp__db__*q"])
    def test_what_some_tool_of_the_upstream_can_be(self, pattern: str) -> None:
        assert could_match(pattern, "mcp__db__")


class TestRuleSet:
    def test_rules_apply_by_agent_and_tool(self) -> None:
        everyone = rule("everyone", tools=["mcp__db__*"])
        exact = rule("exact", agents=("a", "b-*"))
        other = rule("other", tools=["mcp__web__get"])
        rules = RuleSet([other, exact, everyone])
        assert rules.applying("a", "mcp__db__query") == (everyone, exact)
        assert rules.applying("b-1", "mcp__db__query") == (everyone, exact)
        assert rules.applying("c", "mcp__db__query") == (everyone,)
        assert rules.applying("a", "mcp__db__querying") == (everyone,)
        assert rules.applying("a", "mcp__web__get") == (other,)
        assert rules.applying("a", "mcp__web__put") == ()

    def test_a_rule_that_names_a_tool_twice_applies_once(self) -> None:
        twice = rule(tools=["mcp__db__query", "mcp__db__*", "mcp__db__query"])
        assert RuleSet([twice]).applying("a", "mcp__db__query") == (twice,)

    def test_names_without_end_do_not_fill_the_memory(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gateway.policy.rules.REMEMBERED", 3)
        rules = RuleSet([rule(), rule("few", "allow-only-if", limits=FEW)])
        sizes = []
        for number in range(10):
            rules.reservations("a", f"mcp__db__{number}", "db", observed=False)
            sizes.append((len(rules._applying), len(rules._reservations)))
        assert sizes == [(1 + number % 3, 1 + number % 3) for number in range(10)]
        assert len(rules.applying("a", "mcp__db__query")) == 2
        assert len(rules.reservations("a", "mcp__db__query", "db", observed=False)) == 1

    def test_what_was_looked_up_once_is_remembered(self) -> None:
        rules = RuleSet([rule("few", "allow-only-if", limits=FEW)])
        first = rules.applying("a", "mcp__db__query")
        assert rules.applying("a", "mcp__db__query") is first
        taken = rules.reservations("a", "mcp__db__query", "db", observed=False)
        assert rules.reservations("a", "mcp__db__query", "db", observed=False) is taken
        assert rules.reservations("a", "mcp__db__query", "db", observed=True) != taken

    def test_sets_of_the_same_rules_are_the_same_in_any_order(self) -> None:
        one, other = rule("one"), rule("other", line=2)
        rules = RuleSet([one, other])
        assert rules == RuleSet([other, one])
        assert hash(rules) == hash(RuleSet([other, one]))
        assert rules != RuleSet([one])
        assert RuleSet([one]) != RuleSet([other])
        assert rules != (one, other)
        assert rules
        assert not RuleSet()


class TestFormerRules:
    def test_a_rule_that_only_moved_is_no_other(self) -> None:
        here, there = rule(line=3), rule(line=9, file="policies/q.yaml")
        assert with_former([here], [there]) == (here,)

    def test_a_rule_that_is_gone_or_changed_stays(self) -> None:
        changed, gone = rule("changed", observe=True), rule("gone")
        both = with_former([changed], [rule("changed"), gone])
        assert [(each.name, each.observe, each.former) for each in both] == [
            ("changed", True, False),
            ("changed", False, True),
            ("gone", False, True),
        ]
