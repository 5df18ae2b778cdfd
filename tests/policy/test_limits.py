"""Limits of rules as values: what a decision says has to be reserved, and how it is told."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from gateway.policy.decide import decide
from gateway.policy.explanation import sayings
from gateway.policy.judge import Facts
from gateway.policy.limits import Limit, Limits, Per, Reservation, in_words, why_exceeded
from gateway.policy.matrix import cells_of, rows_of
from gateway.policy.rules import Rule
from gateway.policy.snapshot import Snapshot
from gateway.policy.values import Action, Context, Decision
from tests.policy.ruling import offered, rule, ruled

HOURLY = Limit("calls", 30, 3_600)
PARALLEL = Limit("in_flight", 2)
ONE_AT_A_TIME = "at most 1 call in flight for each agent, tool and upstream"
DAILY = Limit("result_bytes", 50_000_000, 86_400)


def limited(
    *limits: Limit, name: str = "few", per: tuple[Per, ...] = ("agent",), **more: Any
) -> Rule:
    return rule(name, "allow-only-if", limits=Limits(limits or (HOURLY,), per), **more)


def ask(snapshot: Snapshot, method: str = "tools/call", **context: Any) -> Decision:
    known: dict[str, Any] = {
        "catalog": offered(),
        "arguments": {},
        "now": datetime(2026, 1, 5, tzinfo=UTC),
    }
    action = Action("tool", method, "db", "query")
    return decide("a", action, snapshot, Context(**{**known, **context}))


class TestDecisions:
    def test_an_allowed_call_names_what_it_has_to_reserve(self) -> None:
        decision = ask(ruled(limited(HOURLY, PARALLEL, per=("agent", "tool", "upstream"))))
        assert decision.effect == "allow"
        who = (("agent", "a"), ("tool", "mcp__db__query"), ("upstream", "db"))
        assert [each.counter for each in decision.reservations] == [
            ("few", "calls", 3_600, who),
            ("few", "in_flight", 0, who),
        ]
        assert {(each.rule, each.file, each.line) for each in decision.reservations} == {
            ("few", "policies/p.yaml", 1)
        }
        assert all(each.enforced for each in decision.reservations)

    @pytest.mark.parametrize(
        ("per", "who"), [("agent", "a"), ("tool", "mcp__db__query"), ("upstream", "db")]
    )
    def test_a_counter_is_about_whom_the_rule_says(self, per: Per, who: str) -> None:
        (reservation,) = ask(ruled(limited(per=(per,)))).reservations
        assert reservation.counter == ("few", "calls", 3_600, ((per, who),))

    def test_a_counter_for_all_is_about_nobody(self) -> None:
        (reservation,) = ask(ruled(limited(per=("rule",)))).reservations
        assert reservation.counter == ("few", "calls", 3_600, ())

    def test_what_goes_nowhere_reserves_nothing(self) -> None:
        few = limited()
        assert ask(ruled(few, rule("no"))).reservations == ()
        assert ask(ruled(few), "tools/list").reservations == ()
        assert ask(ruled(limited(tools=("mcp__db__drop",)))).reservations == ()

    def test_limits_count_only_what_the_rest_of_their_rule_allows(self) -> None:
        snapshot = ruled(limited(schema={"properties": {"table": {"const": "orders"}}}))
        assert ask(snapshot, arguments={"table": "people"}).effect == "deny"
        assert len(ask(snapshot, arguments={"table": "orders"}).reservations) == 1

    def test_an_observed_rule_is_counted_and_enforces_nothing(self) -> None:
        (reservation,) = ask(ruled(limited(observe=True))).reservations
        assert not reservation.enforced

    def test_in_observe_mode_no_limit_is_enforced(self) -> None:
        (reservation,) = ask(ruled(limited(), observe=True)).reservations
        assert not reservation.enforced

    def test_a_refusal_that_is_only_observed_keeps_the_limits_that_are_enforced(self) -> None:
        seen = limited(name="seen", observe=True)
        decision = ask(ruled(limited(), seen, rule("no", observe=True)))
        assert (decision.effect, decision.enforced) == ("deny", False)
        assert [each.rule for each in decision.reservations] == ["few"]

    def test_a_rule_that_is_gone_and_not_accepted_still_limits(self) -> None:
        (reservation,) = ask(ruled(accepted=(limited(),))).reservations
        assert reservation.former

    def test_a_limit_that_changed_counts_in_the_counter_it_had(self) -> None:
        now = limited(Limit("calls", 90, 3_600))
        both = ask(ruled(now, accepted=(limited(),))).reservations
        assert sorted(each.limit.amount for each in both) == [30, 90]
        assert len({each.counter for each in both}) == 1


class TestWords:
    @pytest.mark.parametrize(
        ("limits", "words"),
        [
            (Limits((HOURLY,)), "at most 30 calls in 1 hour for each agent"),
            (
                Limits((HOURLY, PARALLEL, DAILY), ("agent", "upstream")),
                "at most 30 calls in 1 hour, 2 calls in flight and 50 MB of results in 1 day for "
                "each agent and upstream",
            ),
            (Limits((Limit("calls", 1, 90),), ("rule",)), "at most 1 call in 90 seconds in all"),
            *(
                (
                    Limits((Limit("result_bytes", size, period_s),)),
                    f"at most {words} for each agent",
                )
                for size, period_s, words in (
                    (2 * 10**9, 2 * 86_400, "2 GB of results in 2 days"),
                    (3_000, 7_200, "3 kB of results in 2 hours"),
                    (1, 61, "1 byte of results in 61 seconds"),
                    (1_000_001, 1, "1000001 bytes of results in 1 second"),
                    (1_500, 3_601, "1500 bytes of results in 3601 seconds"),
                    (10**6, 86_401, "1 MB of results in 86401 seconds"),
                )
            ),
            (Limits((Limit("in_flight", 1),), ("agent", "tool", "upstream")), ONE_AT_A_TIME),
            (
                Limits((Limit("result_bytes", 1_025, 120),), ("tool",)),
                "at most 1025 bytes of results in 2 minutes for each tool",
            ),
        ],
    )
    def test_limits_are_told_in_words(self, limits: Limits, words: str) -> None:
        assert in_words(limits) == words

    @pytest.mark.parametrize(
        ("limit", "wait_s", "words"),
        [
            (HOURLY, 61, "and that many have been made; try again in 61 seconds"),
            (HOURLY, 1, "; try again in 1 second"),
            (HOURLY, 0, "; try again in 0 seconds"),
            (DAILY, 9, "and they are used up; try again in 9 seconds"),
            (PARALLEL, None, "are under way; try again when one of them has ended"),
        ],
    )
    def test_a_refusal_says_when_to_try_again(
        self, limit: Limit, wait_s: int | None, words: str
    ) -> None:
        counter = ("few", limit.kind, limit.period_s, (("agent", "a"),))
        reservation = Reservation("few", "p.yaml", 3, limit, counter, enforced=True)
        assert not reservation.former
        reason = why_exceeded(reservation, wait_s)
        assert reason.startswith("the rule 'few' allows at most ")
        assert reason.endswith(words)
        own = msgspec.structs.replace(reservation, message="Go slow.")
        assert why_exceeded(own, 5) == "Go slow; try again in 5 seconds"

    def test_a_limit_for_all_is_told_as_one(self) -> None:
        counter = ("few", HOURLY.kind, HOURLY.period_s, ())
        reason = why_exceeded(Reservation("few", "p.yaml", 3, HOURLY, counter, enforced=True), 5)
        assert "at most 30 calls in 1 hour in all, and that many have been made" in reason


class TestTools:
    def test_explain_says_which_limits_a_rule_has(self) -> None:
        (saying,) = sayings("a", "mcp__db__query", ruled(limited()), Facts(arguments={}))
        assert saying.says == "nothing"
        assert saying.limits == "at most 30 calls in 1 hour for each agent"

    def test_the_matrix_names_a_limit_as_a_condition(self) -> None:
        snapshot = ruled(limited())
        agents = tuple(snapshot.agents.values())
        catalogs = {"db": offered()}
        rows = rows_of(agents, snapshot.rules.rules, catalogs)
        cells = {cell.tool: cell for cell in cells_of(agents, rows, snapshot, catalogs)}
        cell = cells["mcp__db__query"]
        assert cell.state == "reachable"
        assert [each.rule for each in cell.conditions] == ["few"]
