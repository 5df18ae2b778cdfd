"""Whether a demo went as it should: what the client got, and what the audit log has of it."""

from collections import Counter
from collections.abc import Sequence

from gateway.audit.calls import Call
from gateway.cli.demo_client import Answer

_EXCERPT_CHARS = 100
_DECISIONS = {"allowed": "allow", "refused": "deny"}


def problems(answers: Sequence[Answer], calls: Sequence[Call]) -> list[str]:
    """A sentence for each call that did not end as expected, in its answer or in the log."""
    found = []
    for answer in answers:
        fault = _fault(answer)
        if fault is not None:
            found.append(f"{answer.step.tool_id} {fault}: {excerpt(answer)}")
    expected = Counter((a.step.tool_id, _DECISIONS[a.step.expected]) for a in answers)
    recorded = Counter((call.decision.tool, call.decision.decision) for call in calls)
    for (tool, decision), count in expected.items():
        if recorded[tool, decision] != count:
            found.append(
                f"{tool} should be in the audit log {count} times with the decision {decision}, "
                f"and is {recorded[tool, decision]} times"
            )
    return found


def not_started(answers: Sequence[Answer]) -> dict[str, str]:
    """The servers that answered no allowed call at all, with what was answered in their place."""
    allowed = [answer for answer in answers if answer.step.expected == "allowed"]
    answering = {answer.step.upstream for answer in allowed if not answer.is_error}
    first = {answer.step.upstream: answer.text for answer in reversed(allowed)}
    return {name: text for name, text in first.items() if name not in answering}


def excerpt(answer: Answer) -> str:
    """An error as it is, of anything else the part that was expected."""
    text = answer.text
    if answer.is_error:
        return text
    start = max(0, text.find(answer.step.proof) - _EXCERPT_CHARS // 2)
    end = start + _EXCERPT_CHARS
    return ("..." if start else "") + text[start:end] + ("..." if end < len(text) else "")


def _fault(answer: Answer) -> str | None:
    if answer.step.expected == "refused":
        return None if answer.is_error else "should have been refused, and was answered"
    if answer.is_error:
        return "should have been allowed, and failed"
    if answer.step.proof not in answer.text:
        return f"was answered without {answer.step.proof!r}"
    return None
