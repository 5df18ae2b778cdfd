"""What the demo makes of the answers that its client got and of the audit log."""

from gateway.audit.calls import Call
from gateway.audit.reader import Row
from gateway.cli.demo_client import Answer
from gateway.cli.demo_scenario import GENERATIONS, UPSTREAMS, Step, scenario
from gateway.cli.demo_verdict import excerpt, not_started, problems

ALLOWED = Step("web", "fetch", {}, "allowed", "declared", proof="a kettle")
REFUSED = Step("web", "drop", {}, "refused", "not declared")


def recorded(tool: str, decision: str) -> Call:
    row = Row(kind="decision", time="t", writer="w", seq=1, tool=tool, decision=decision)
    return Call(decision=row, decision_line=b"{}")


LOG = [recorded("mcp__web__fetch", "allow"), recorded("mcp__web__drop", "deny")]


def test_all_as_expected_is_no_problem() -> None:
    answers = [
        Answer(ALLOWED, "here is a kettle", is_error=False),
        Answer(REFUSED, "no", is_error=True),
    ]
    assert problems(answers, LOG) == []


def test_an_allowed_call_that_fails_is_a_problem() -> None:
    answers = [Answer(ALLOWED, "a kettle, broken", is_error=True)]
    assert problems(answers, LOG) == [
        "mcp__web__fetch should have been allowed, and failed: a kettle, broken"
    ]


def test_an_allowed_call_with_another_answer_is_a_problem() -> None:
    answers = [Answer(ALLOWED, "a lamp", is_error=False)]
    assert problems(answers, LOG) == ["mcp__web__fetch was answered without 'a kettle': a lamp"]


def test_a_refused_call_that_passes_is_a_problem() -> None:
    answers = [Answer(REFUSED, "dropped", is_error=False)]
    assert problems(answers, LOG) == [
        "mcp__web__drop should have been refused, and was answered: dropped"
    ]


def test_a_call_that_the_log_lacks_or_has_otherwise_is_a_problem() -> None:
    answers = [Answer(REFUSED, "no", is_error=True)]
    sentence = (
        "mcp__web__drop should be in the audit log 1 times with the decision deny, and is {} times"
    )
    assert problems(answers, []) == [sentence.format(0)]
    assert problems(answers, [recorded("mcp__web__drop", "allow")]) == [sentence.format(0)]
    assert problems(answers, [LOG[1], LOG[1]]) == [sentence.format(2)]


def test_a_server_none_of_whose_allowed_calls_is_answered_has_not_started() -> None:
    other = Step("shop", "buy", {}, "allowed", "declared")
    answers = [
        Answer(ALLOWED, "it exited", is_error=True),
        Answer(ALLOWED, "it exited again", is_error=True),
        Answer(other, "bought", is_error=False),
        Answer(other, "out of stock", is_error=True),
        Answer(REFUSED, "no", is_error=True),
    ]
    assert not_started(answers) == {"web": "it exited"}


def test_an_excerpt_holds_the_proof_and_says_that_it_is_one() -> None:
    text = "x" * 500 + "a kettle" + "y" * 500
    shown = excerpt(Answer(ALLOWED, text, is_error=False))
    assert "a kettle" in shown
    assert shown.startswith("...x")
    assert shown.endswith("y...")
    assert len(shown) < 120


def test_every_scenario_calls_each_server_and_is_refused_at_least_three_times() -> None:
    for generation in GENERATIONS:
        steps = scenario(generation, project_ref="ref", page_url="http://127.0.0.1/")
        allowed = {step.upstream for step in steps if step.expected == "allowed"}
        assert allowed == set(UPSTREAMS)
        assert sum(step.expected == "refused" for step in steps) >= 3
        assert all(step.proof for step in steps if step.expected == "allowed")
