"""Decides a call that nobody makes: for tests of policies, and for what was called once (pure)."""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from gateway.policy.arguments import slow_jobs
from gateway.policy.compile import meanings_of
from gateway.policy.decide import decide
from gateway.policy.guards import build
from gateway.policy.guards.keyword import Job
from gateway.policy.snapshot import Snapshot
from gateway.policy.values import Action, Context, Decision

_UNEXAMINED = "The argument could not be examined."
_RESTRICTION = ("allow", "ask", "deny")


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """A call to be decided. `arguments` None are not known; `now` is an aware time.

    `tool` is a tool id, or the name of a tool of the client's own.
    """

    agent: str
    tool: str
    arguments: Mapping[str, object] | None
    now: datetime
    means: str

    @property
    def native(self) -> bool:
        """Whether the tool is none of an upstream."""
        return not self.tool.startswith("mcp__")


def decide_trial(trial: Trial, snapshot: Snapshot) -> Decision:
    """What would be decided, as far as no upstream has to be asked.

    Where the tool id could mean several tools, the most restrictive decision.
    """
    if trial.native:
        action = Action("native", "PreToolUse", "", trial.tool)
        return decide(trial.agent, action, snapshot, Context())
    meanings = meanings_of(trial.tool, snapshot.upstreams) or (_split(trial.tool),)
    context = Context(
        arguments=trial.arguments,
        now=trial.now,
        means=trial.means,
        answers=answers_to(trial.agent, trial.tool, trial.arguments, snapshot),
    )
    decisions = [
        decide(trial.agent, Action("tool", "tools/call", upstream, name), snapshot, context)
        for upstream, name in meanings
    ]
    return max(decisions, key=lambda decision: _RESTRICTION.index(decision.effect))


def answers_to(
    agent: str, wanted: str, arguments: Mapping[str, object] | None, snapshot: Snapshot
) -> dict[Job, str | None]:
    """What the slow guards of the rules about a call say; takes as long as they do.

    A guard that fails refuses, as the gateway has it. It is not held to the gateway's time here.
    """
    if arguments is None or not snapshot.rules.applying(agent, wanted):
        return {}
    try:
        jobs = slow_jobs(agent, wanted, arguments, snapshot.rules)
    except Exception:  # noqa: BLE001 - a rule that is broken refuses when it is judged
        return {}
    return {job: _answer(job) for job in jobs}


def depends_on_arguments(agent: str, wanted: str, snapshot: Snapshot) -> bool:
    """Whether a rule about this tool cannot be judged without arguments."""
    return any(rule.arguments is not None for rule in snapshot.rules.applying(agent, wanted))


def _answer(job: Job) -> str | None:
    try:
        guard = build(job.guard, msgspec.json.decode(job.options))
        value = msgspec.json.decode(job.value)
        return guard.glance(value) or guard.check(value)
    except Exception:  # noqa: BLE001 - whatever a guard raises, it has not said yes
        return _UNEXAMINED


def _split(wanted: str) -> tuple[str, str]:
    """The parts of a tool id that no upstream owns."""
    upstream, _, name = wanted.removeprefix("mcp__").partition("__")
    return upstream, name
