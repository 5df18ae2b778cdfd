"""What rules do to a decision: by effect, arguments, time and caller."""

from datetime import UTC, datetime
from itertools import permutations
from typing import Any

import pytest

from gateway.policy.judge import Facts, judge
from gateway.policy.rules import Rule, RuleSet, When
from tests.policy.ruling import offered, query, rule, ruled

ONLY_ORDERS = {"properties": {"table": {"const": "orders"}}}
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)  # a Monday


class TestEffects:
    def test_without_a_rule_the_lists_decide(self) -> None:
        assert query(ruled()).allows
        assert query(ruled(rule(tools=["mcp__db__other"]))).allows

    def test_deny_names_rule_file_and_line(self) -> None:
        decision = query(ruled(rule("no-queries", line=4)))
        assert decision.refuses
        assert (decision.effect, decision.rule) == ("deny", "no-queries")
        assert (decision.file, decision.line) == ("policies/p.yaml", 4)
        assert decision.tool_id == "mcp__db__query"
        assert decision.definition
        assert "no-queries" in decision.reason

    def test_what_a_rule_says_in_its_own_words(self) -> None:
        told = query(ruled(rule("no"))).reason
        assert told == "the rule 'no' denies mcp__db__query"
        told = query(ruled(rule("no", schema=ONLY_ORDERS)), {"table": "orders"}).reason
        assert told == "the rule 'no' denies mcp__db__query with such arguments"
        told = query(ruled(rule("who", "ask", schema=ONLY_ORDERS)), {"table": "orders"}).reason
        assert told == "the rule 'who' asks a person for mcp__db__query with such arguments"
        told = query(ruled(rule("no", when=When(days=(0,)))), now=NOON).reason
        assert told == "the rule 'no' denies mcp__db__query on mon (UTC)"

    def test_the_message_is_for_the_model(self) -> None:
        decision = query(ruled(rule(message="Ask the data team first.")))
        assert decision.reason == "Ask the data team first"

    def test_ask_refuses_until_a_person_says_yes(self) -> None:
        decision = query(ruled(rule(effect="ask")))
        assert decision.refuses
        assert decision.asks
        assert [each.name for each in decision.asking] == ["r"]
        assert "asks a person for mcp__db__query" in decision.reason
        assert "the rule 'r' asks" in query(ruled(rule(effect="ask", message="Hm."))).reason

    def test_deny_with_arguments_refuses_those(self) -> None:
        snapshot = ruled(rule(schema={"properties": {"force": {"const": True}}}))
        assert query(snapshot, {"force": True}).refuses
        assert query(snapshot, {"force": False}).allows
        assert query(snapshot, {}).allows

    def test_allow_only_if_refuses_all_others(self) -> None:
        snapshot = ruled(rule(effect="allow-only-if", schema=ONLY_ORDERS))
        assert query(snapshot, {"table": "orders"}).allows
        for arguments in ({"table": "users"}, {}, {"table": "orders", "limit": 1}):
            decision = query(snapshot, arguments)
            assert decision.refuses
            assert "users" not in decision.reason

    def test_it_refuses_without_the_catalog_and_never_allows_without_it(self) -> None:
        snapshot = ruled(rule(effect="allow-only-if", schema=ONLY_ORDERS))
        assert query(snapshot, {"table": "users"}, catalog=None).refuses
        allowed = query(snapshot, {"table": "orders"}, catalog=None)
        assert allowed.provisional
        assert not allowed.allows

    def test_a_rule_about_an_argument_that_the_tool_does_not_take_refuses(self) -> None:
        for effect in ("deny", "ask", "allow-only-if"):
            schema = {"properties": {"tabel": {"const": "orders"}}}
            snapshot = ruled(rule(effect=effect, schema=schema))
            decision = query(snapshot, {"table": "users"})
            assert decision.refuses
            assert "'tabel'" in decision.reason
            assert query(snapshot, method="tools/list").refuses


class TestMostRestrictive:
    RULES = (
        rule("ask-2", "ask", line=2),
        rule("deny-5", line=5),
        rule("deny-3", line=3),
        rule("ask-1", "ask", line=1),
        rule("watched", observe=True, line=0),
    )

    def test_deny_then_ask_then_the_first_by_place_whatever_the_order(self) -> None:
        assert {query(ruled(*each)).rule for each in permutations(self.RULES)} == {"deny-3"}

    def test_ask_where_nothing_denies(self) -> None:
        assert query(ruled(self.RULES[0], self.RULES[3], self.RULES[4])).rule == "ask-1"

    def test_files_come_before_lines(self) -> None:
        found = query(ruled(rule("b", file="b.yaml", line=1), rule("a", file="a.yaml", line=9)))
        assert found.rule == "a"


class TestObserve:
    def test_a_rule_that_is_only_observed_is_recorded_and_not_enforced(self) -> None:
        decision = query(ruled(rule("watched", observe=True)))
        assert (decision.effect, decision.rule, decision.enforced) == ("deny", "watched", False)
        assert decision.allows
        assert decision.definition

    def test_an_enforced_rule_wins_over_it(self) -> None:
        decision = query(ruled(rule("watched", observe=True), rule("asked", "ask", line=9)))
        assert (decision.effect, decision.rule, decision.enforced) == ("ask", "asked", True)

    def test_in_observe_mode_no_rule_is_enforced(self) -> None:
        decision = query(ruled(rule(), observe=True))
        assert (decision.effect, decision.enforced, decision.allows) == ("deny", False, True)

    def test_what_is_observed_still_waits_for_the_catalog(self) -> None:
        for snapshot in (ruled(rule(observe=True)), ruled(rule(), observe=True)):
            decision = query(snapshot, catalog=None)
            assert decision.provisional
            assert not decision.allows


class TestFailures:
    def test_what_cannot_be_judged_refuses(self) -> None:
        broken = rule(effect="allow-only-if", schema=ONLY_ORDERS)
        assert broken.arguments is not None
        hurt = {"table": "orders", "limit": {1: 2}}
        for effect in ("deny", "allow-only-if"):
            snapshot = ruled(rule(effect=effect, schema=ONLY_ORDERS))
            decision = query(snapshot, hurt)
            assert (decision.effect, decision.refuses) == ("deny", True)

    def test_text_that_cannot_be_encoded_refuses(self) -> None:
        snapshot = ruled(rule(schema={"properties": {"table": {"pattern": "^x$"}}}))
        assert query(snapshot, {"table": "\ud800"}).refuses

    def test_a_schema_that_no_longer_compiles_refuses(self) -> None:
        import msgspec

        good = rule(effect="allow-only-if", schema=ONLY_ORDERS)
        assert good.arguments is not None
        bad = msgspec.structs.replace(good.arguments, schema='{"type": "nonsense"}')
        decision = query(ruled(msgspec.structs.replace(good, arguments=bad)), {"table": "orders"})
        assert decision.refuses

    @pytest.mark.parametrize(
        "conditions",
        [{"schema": ONLY_ORDERS}, {"when": When(days=(0,))}, {"when": When(identified=("token",))}],
    )
    @pytest.mark.parametrize("effect", ["deny", "ask", "allow-only-if"])
    def test_what_is_not_known_refuses(self, effect: Any, conditions: dict[str, Any]) -> None:
        one = rule(effect=effect, **conditions)
        refusal = judge([one], Facts(), RuleSet([one]))
        assert refusal is not None
        assert refusal.effect == "deny"
        assert "not known" in refusal.reason


class TestWhen:
    def refused(self, when: When, hour: int, minute: int = 0, day: int = 23, **more: Any) -> bool:
        """Whether an `allow-only-if` refuses; a `deny` must say the opposite."""
        now = datetime(2026, 11, day, hour, minute, tzinfo=UTC)
        only = query(ruled(rule(effect="allow-only-if", when=when)), now=now, **more).refuses
        assert query(ruled(rule(when=when)), now=now, **more).refuses is not only
        return only

    @pytest.mark.parametrize(
        ("hour", "minute", "refused"),
        [(8, 59, True), (9, 29, True), (9, 30, False), (16, 59, False), (17, 0, True)],
    )
    def test_hours_begin_and_end(self, hour: int, minute: int, refused: bool) -> None:
        assert self.refused(When(hours=((570, 1020),)), hour, minute) is refused

    @pytest.mark.parametrize(
        ("day", "hour", "refused"),
        [
            (23, 21, True),
            (23, 22, False),
            (23, 23, False),
            (24, 0, False),
            (24, 5, False),
            (24, 6, True),
            (24, 22, True),
            (23, 5, True),
        ],
    )
    def test_a_night_belongs_to_the_day_on_which_it_begins(
        self, day: int, hour: int, refused: bool
    ) -> None:
        assert self.refused(When(days=(0,), hours=((1320, 360),)), hour, day=day) is refused

    def test_days_alone_are_whole_days(self) -> None:
        assert not self.refused(When(days=(0,)), 23, 59)
        assert self.refused(When(days=(0,)), 0, day=24)

    def test_the_time_is_that_of_the_zone(self) -> None:
        berlin = When(hours=((540, 1020),), timezone="Europe/Berlin")
        assert not self.refused(berlin, 8)
        assert self.refused(berlin, 16)

    def test_the_day_ends_at_24(self) -> None:
        assert not self.refused(When(hours=((1380, 1440),)), 23, 59)

    def test_how_the_caller_is_known(self) -> None:
        when = When(identified=("token", "process"))
        assert not self.refused(when, 12, means="token")
        assert self.refused(when, 12, means="default")

    def test_which_upstream_it_is(self) -> None:
        assert not self.refused(When(upstreams=("web", "db")), 12)
        assert self.refused(When(upstreams=("web",)), 12)
        assert self.refused(When(upstreams=("db",), days=(1,)), 12)

    def test_of_several_spans_one_is_enough(self) -> None:
        when = When(hours=((480, 720), (780, 1080)))
        assert not self.refused(when, 10)
        assert self.refused(when, 12, 30)
        assert not self.refused(when, 14)

    def test_every_condition_of_deny_must_be_met(self) -> None:
        schema = {"properties": {"force": {"const": True}}}
        snapshot = ruled(rule(schema=schema, when=When(days=(1,))))
        assert query(snapshot, {"force": True}, now=NOON).allows
        assert query(snapshot, {"force": True}, now=NOON.replace(day=24)).refuses

    def test_the_reason_tells_when(self) -> None:
        when = When(
            days=(1, 2), hours=((545, 1019), (1080, 1440)), upstreams=("db",), identified=("token",)
        )
        reason = query(
            ruled(rule(effect="allow-only-if", when=when)), now=NOON, means="token"
        ).reason
        assert (
            "on tue, wed at 09:05-16:59, 18:00-24:00 (UTC) on 'db' to callers known by token"
        ) in reason


class TestListings:
    def shows(self, *rules: Rule) -> bool:
        return query(ruled(*rules), method="tools/list").allows

    def test_what_is_denied_whatever_the_call_is_hidden(self) -> None:
        assert not self.shows(rule())

    def test_what_a_person_may_approve_is_shown(self) -> None:
        decision = query(ruled(rule(effect="ask")), method="tools/list")
        assert decision.asks
        assert not decision.provisional

    @pytest.mark.parametrize(
        "conditions", [{"schema": ONLY_ORDERS}, {"when": When(days=(0,), identified=("token",))}]
    )
    @pytest.mark.parametrize("effect", ["deny", "ask", "allow-only-if"])
    def test_what_depends_on_the_call_is_shown(self, effect: Any, conditions: Any) -> None:
        assert self.shows(rule(effect=effect, **conditions))

    def test_an_upstream_is_known_and_hides_what_is_denied_on_it(self) -> None:
        assert not self.shows(rule(when=When(upstreams=("db",))))
        assert self.shows(rule(when=When(upstreams=("web",))))
        assert not self.shows(rule(effect="allow-only-if", when=When(upstreams=("web",))))
        assert self.shows(rule(when=When(upstreams=("db",), days=(0,))))

    def test_what_is_only_observed_is_shown(self) -> None:
        assert self.shows(rule(observe=True))


class TestTrust:
    def test_a_rule_that_was_accepted_holds_until_its_end_is_accepted(self) -> None:
        decision = query(ruled(accepted=[rule("old")]))
        assert decision.refuses
        assert decision.rule == "old"
        assert "gateway trust" in decision.reason

    def test_a_weakened_rule_is_judged_in_both_forms(self) -> None:
        def limit(table: str) -> Rule:
            return rule(effect="allow-only-if", schema={"properties": {"table": {"const": table}}})

        snapshot = ruled(limit("users"), accepted=[limit("orders")])
        assert query(snapshot, {"table": "users"}).refuses
        assert query(snapshot, {"table": "orders"}).refuses

    def test_a_new_rule_holds_at_once(self) -> None:
        assert query(ruled(rule(), accepted=[])).refuses


class TestGuardsThatTakeLong:
    def test_without_their_answers_the_call_is_refused(self) -> None:
        from gateway.policy.arguments import slow_jobs

        schema = {"properties": {"table": {"sql": {"dialect": "postgres"}}}}
        snapshot = ruled(rule(effect="allow-only-if", schema=schema))
        arguments = {"table": "select 1"}
        assert query(snapshot, arguments).refuses
        (job,) = slow_jobs("a", "mcp__db__query", arguments, snapshot.rules)
        assert query(snapshot, arguments, answers={job: None}).allows
        refused = query(snapshot, arguments, answers={job: "Only one statement."})
        assert "Only one statement." in refused.reason
        assert slow_jobs("a", "mcp__db__drop", arguments, snapshot.rules) == ()


def test_the_catalog_of_these_tests_is_whole() -> None:
    assert set(offered().tools) == {"query", "drop"}
