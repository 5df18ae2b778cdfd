"""What an approval lifts: the very call a person saw, asked for by the very rules, and no deny."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.approval import Approval, Bound, Terms, minutes, rule_key, rule_keys
from gateway.policy.decide import decide
from gateway.policy.rules import Rule
from gateway.policy.snapshot import Snapshot
from gateway.policy.values import Action, Context, Decision
from tests.policy.ruling import offered, query, rule, ruled

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
DIGEST = "d" * 32
ASK = rule("ask", "ask", line=3)


def approval(*asked: Rule, **changes: Any) -> Approval:
    bound = Bound("a", "process", "db", "query", DIGEST, rule_keys(asked or (ASK,)))
    fields: dict[str, Any] = {
        "id": "one",
        "bound": bound,
        "way": "command",
        "known": "authenticated",
        "until": NOW + timedelta(seconds=60),
    }
    return Approval(**{**fields, **changes})


def bound(**changes: Any) -> Bound:
    return msgspec.structs.replace(approval().bound, **changes)


def answered(snapshot: Snapshot, given: Approval | None, **changes: Any) -> Decision:
    context = {"now": NOW, "means": "process", "digest": DIGEST, "approval": given, **changes}
    return query(snapshot, **context)


def with_terms(snapshot: Snapshot, **terms: Any) -> Snapshot:
    return msgspec.structs.replace(snapshot, approvals=Terms(**terms))


def test_an_approval_lets_the_call_through_and_is_named() -> None:
    decision = answered(ruled(ASK), approval())
    assert decision.allows
    assert decision.approval == "one"
    assert (decision.rule, decision.file, decision.line) == ("ask", "policies/p.yaml", 3)
    assert decision.reason.endswith("and a person approved it")


@pytest.mark.parametrize(
    "changes",
    [
        {"bound": bound(agent="b")},
        {"bound": bound(identified="token")},
        {"bound": bound(upstream="other")},
        {"bound": bound(tool="drop")},
        {"bound": bound(arguments="e" * 32)},
        {"bound": bound(rules=())},
        {"until": NOW - timedelta(seconds=1)},
        {"until": None},
        {"way": "client"},
        {"known": "client-asserted"},
        {"way": "client", "known": "client-asserted"},
    ],
    ids=str,
)
def test_an_approval_of_anything_else_lets_nothing_through(changes: dict[str, Any]) -> None:
    decision = answered(ruled(ASK), approval(**changes))
    assert decision.refuses
    assert decision.effect == "ask"


def test_an_approval_counts_until_its_last_moment() -> None:
    assert answered(ruled(ASK), approval(until=NOW)).allows
    assert answered(ruled(ASK), approval(until=NOW - timedelta(microseconds=1))).refuses
    naive = NOW.replace(tzinfo=None)
    assert answered(ruled(ASK), approval(until=naive), now=naive).refuses


def test_arguments_that_cannot_be_bound_are_not_covered() -> None:
    given = approval(bound=bound(arguments=""))
    assert answered(ruled(ASK), given, digest="").refuses
    assert answered(ruled(ASK), approval(), now=None).refuses


def test_a_deny_is_never_lifted() -> None:
    decision = answered(ruled(ASK, rule("no", line=9)), approval())
    assert (decision.effect, decision.rule) == ("deny", "no")


def test_a_rule_that_did_not_ask_then_holds_now() -> None:
    other = rule("other", "ask", line=9)
    assert answered(ruled(ASK, other), approval()).refuses
    assert answered(ruled(ASK, other), approval(ASK, other)).allows
    # One that asked then and does not any more takes nothing away.
    assert answered(ruled(ASK), approval(ASK, other)).allows


def test_a_rule_that_was_changed_is_another_one_and_one_that_was_moved_is_not() -> None:
    changed = msgspec.structs.replace(ASK, message="Think twice.")
    moved = msgspec.structs.replace(ASK, line=77, file="elsewhere.yaml")
    assert rule_key(moved) == rule_key(ASK) != rule_key(changed)
    assert len(rule_key(ASK)) == 32
    assert answered(ruled(moved), approval()).allows
    assert answered(ruled(changed), approval()).refuses


def test_what_was_approved_cannot_be_changed_afterwards() -> None:
    for value in (approval(), bound(), Terms()):
        hash(value)
        for name in value.__struct_fields__:
            with pytest.raises(AttributeError):
                setattr(value, name, None)
    with pytest.raises(TypeError):
        Terms(("client",))
    with pytest.raises(TypeError):
        Approval("one", bound())


def test_what_holds_where_nothing_is_said() -> None:
    """As docs/approvals.md has it: nobody is asked through the client, nobody waits for ever."""
    assert Terms() == Terms(
        by=("command", "console"),
        timeout_s=300.0,
        remember=("call", "session", "15m"),
        max_held=64,
    )
    assert len(rule_key(ASK)) == len("d" * 32)


def test_minutes_are_told_from_other_spans() -> None:
    assert [minutes(each) for each in ("1m", "15m", "1440m")] == [1, 15, 1440]
    assert [minutes(each) for each in ("call", "session", "0m", "15", "15mm")] == [None] * 5


def test_a_rule_may_demand_that_the_person_is_known() -> None:
    strict = rule("strict", "ask", approval="authenticated")
    snapshot = with_terms(ruled(strict), by=("client", "command"))
    said = approval(strict, way="client", known="client-asserted")
    assert answered(snapshot, said).refuses
    assert answered(snapshot, approval(strict)).allows
    assert answered(
        with_terms(ruled(ASK), by=("client",)), approval(way="client", known="client-asserted")
    ).allows


def test_where_no_way_is_allowed_the_call_is_denied_without_asking() -> None:
    for snapshot in (
        with_terms(ruled(ASK), by=()),
        with_terms(ruled(rule("s", "ask", approval="authenticated")), by=("client",)),
    ):
        decision = answered(snapshot, None)
        assert decision.effect == "deny"
        assert "allows no way to give one" in decision.reason
        assert not query(snapshot, method="tools/list").asks


def test_a_way_that_was_switched_off_since_does_not_count() -> None:
    assert answered(with_terms(ruled(ASK), by=("console",)), approval()).refuses


def test_a_refusal_of_a_persons_holds_even_if_no_rule_asks_any_more() -> None:
    said = approval(refusal="a person was asked and denied it", until=None)
    asked = answered(ruled(ASK), said)
    assert (asked.effect, asked.rule, asked.approval) == ("deny", "ask", "one")
    assert asked.reason.endswith("and a person was asked and denied it")
    assert not asked.provisional
    unknown = answered(ruled(ASK), said, catalog=None)
    assert (unknown.effect, unknown.provisional, unknown.asking) == ("deny", False, ())
    assert asked.refuses
    assert answered(ruled(ASK, observe=True), said).refuses
    gone = answered(ruled(), said)
    assert (gone.effect, gone.rule) == ("deny", "approval")


def test_what_is_only_observed_asks_nobody() -> None:
    watched = answered(ruled(rule("w", "ask", observe=True)), None)
    assert watched.allows
    assert (watched.effect, watched.asking) == ("ask", ())
    mode = answered(ruled(ASK, observe=True), None)
    assert mode.allows
    assert (mode.effect, mode.asking) == ("ask", ())


def test_an_approval_is_not_used_up_for_what_is_only_observed() -> None:
    for snapshot in (
        ruled(rule("w", "ask", observe=True)),
        ruled(ASK, observe=True),
        with_terms(ruled(rule("w", "ask", observe=True)), by=()),
    ):
        decision = answered(snapshot, approval())
        assert (decision.effect, decision.enforced, decision.approval) == ("ask", False, "")


def test_what_is_only_observed_is_told_of_a_call_that_a_person_approved() -> None:
    decision = answered(ruled(ASK, rule("watched", observe=True, line=9)), approval())
    assert (decision.effect, decision.rule, decision.enforced) == ("deny", "watched", False)
    assert decision.approval == "one"


def test_an_approval_counts_to_its_last_moment() -> None:
    assert answered(ruled(ASK), approval(until=NOW)).allows
    assert answered(ruled(ASK), approval(until=NOW - timedelta(microseconds=1))).refuses


def test_how_long_an_answer_is_to_hold_may_be_said_in_minutes() -> None:
    assert (minutes("15m"), minutes("9999m")) == (15, 9999)
    assert [minutes(each) for each in ("session", "call", "0m", "15", "15m ", "10000m")] == [
        None
    ] * 6


def test_nobody_is_asked_before_the_catalog_is_known() -> None:
    snapshot = ruled(ASK)
    decision = decide("a", Action("tool", "tools/call", "db", "query"), snapshot, Context())
    assert decision.asking
    assert decision.provisional


_keys = st.sampled_from(("a", "b"))
_rules = st.lists(
    st.tuples(
        st.sampled_from(("deny", "ask", "allow-only-if")),
        st.sampled_from(("mcp__db__query", "mcp__*")),
        st.sampled_from((None, {"properties": {"limit": {"maximum": 5}}})),
        st.sampled_from(("any", "authenticated")),
        st.booleans(),
    ),
    max_size=4,
)
_approvals = st.builds(
    lambda agent, tool, arguments, way, known, late, refusal, keys: (
        agent,
        tool,
        arguments,
        way,
        known,
        late,
        refusal,
        keys,
    ),
    _keys,
    st.sampled_from(("query", "drop")),
    st.sampled_from((DIGEST, "", "e" * 32)),
    st.sampled_from(("client", "command", "console")),
    st.sampled_from(("authenticated", "client-asserted")),
    st.booleans(),
    st.sampled_from(("", "denied")),
    st.sampled_from(("all", "none", "some")),
)


@settings(deadline=None)
@given(_rules, _approvals, st.sampled_from(("query", "drop", "absent")), st.integers(0, 9))
def test_whatever_was_approved_only_ask_is_ever_lifted(
    made: list[Any], said: Any, tool: str, limit: int
) -> None:
    rules = [
        rule(
            f"r{n}",
            effect,
            tools=(tools,),
            schema=schema if schema or effect != "allow-only-if" else {"required": ["limit"]},
            line=n,
            observe=observe,
            **({"approval": demand} if effect == "ask" else {}),
        )
        for n, (effect, tools, schema, demand, observe) in enumerate(made)
    ]
    snapshot = with_terms(ruled(*rules), by=("client", "command"))
    agent, named, arguments, way, known, late, refusal, keys = said
    every = rule_keys(rules)
    given = Approval(
        id="x",
        bound=Bound(
            agent,
            "process",
            "db",
            named,
            arguments,
            {"all": every, "none": (), "some": every[:1]}[keys],
        ),
        way=way,
        known=known,
        until=NOW + timedelta(seconds=-5 if late else 5),
        refusal=refusal,
    )
    for who in ("a", "nobody"):
        action = Action("tool", "tools/call", "db", tool)
        context = Context(
            catalog=offered(),
            arguments={"limit": limit},
            now=NOW,
            means="process",
            digest=DIGEST,
        )
        before = decide(who, action, snapshot, context)
        after = decide(who, action, snapshot, msgspec.structs.replace(context, approval=given))
        if before.effect == "deny" and before.enforced:
            assert after == before
        if after.allows and not before.allows:
            assert before.asks
            assert (agent, named, arguments, late, refusal) == ("a", tool, DIGEST, False, "")
            assert {rule_key(each) for each in before.asking} <= set(given.bound.rules)
            assert (way == "client") == (known == "client-asserted")
            strict = any(each.approval == "authenticated" for each in before.asking)
            assert way == "command" or (way == "client" and not strict)
            assert after.approval == "x"
