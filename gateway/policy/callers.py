"""Which agent a caller of the host is, and what all callers of one connection could do together."""

import msgspec

from gateway.policy.decide import decide
from gateway.policy.snapshot import (
    NOTHING,
    Grant,
    Selection,
    Snapshot,
    UpstreamPermissions,
)
from gateway.policy.values import Action, Context, Decision

BUILT_IN_TYPES = frozenset(
    (
        "general-purpose",
        "Explore",
        "Plan",
        "claude",
        "claude-code-guide",
        "statusline-setup",
        "output-style-setup",
    )
)
"""The agents that Claude Code brings along and that have no file."""

_NO_MAIN_THREAD = (
    "the client's main thread is no agent here: set main_thread in gateway.yaml to the name of an "
    "agent, a ceiling (a list of tools) or observe"
)
_NO_BUILT_IN = (
    "the client's built-in agents are no agents here: set builtin_agents in gateway.yaml to the "
    "name of an agent, a ceiling (a list of tools) or observe"
)


def agent_of(agent_type: str | None, snapshot: Snapshot) -> tuple[str | None, str]:
    """The agent that a caller of the host's is, and why it is none where it is none.

    `agent_type` is what the host calls it, None for its main thread.
    """
    if agent_type is None:
        return snapshot.main_thread, "" if snapshot.main_thread else _NO_MAIN_THREAD
    if agent_type in BUILT_IN_TYPES and agent_type not in snapshot.agents:
        return snapshot.builtin_agents, "" if snapshot.builtin_agents else _NO_BUILT_IN
    # A name that no file defines is nobody's, and decided as such. The agents that stand for
    # others are reached by what they stand for only.
    if agent_type.startswith("@"):
        return None, f"{agent_type!r} is no name of an agent"
    return agent_type, ""


def decide_for_any(action: Action, snapshot: Snapshot, context: Context) -> Decision:
    """The decision for a connection that every agent may use: allowed what any of them is."""
    verdict = decide(None, action, snapshot, context)
    for name, agent in snapshot.agents.items():
        if verdict.effect == "allow" or not verdict.enforced:
            break  # mutants: to go on changes nothing
        if agent.observed or (agent.refusal is None and action.upstream in agent.upstreams):
            one = decide(name, action, snapshot, context)
            # What one of them may do after a person was asked is more than what none may.
            verdict = verdict if verdict.asks and one.effect == "deny" else one
    return verdict


def permissions_on(agent: str | None, upstream: str, snapshot: Snapshot) -> UpstreamPermissions:
    """What an agent may at most do on an upstream; with observe, everything.

    What nobody has accepted does not count: an upstream is told of it, or asked for it, otherwise.
    """
    permissions = snapshot.agents.get(agent) if agent is not None else None
    if snapshot.observe or (permissions is not None and permissions.observed):
        return _EVERYTHING
    here = _NOWHERE if permissions is None else permissions.upstreams.get(upstream, _NOWHERE)
    if snapshot.accepted is None or permissions is None:
        return here
    accepted = snapshot.accepted.get(permissions.name)
    before = _NOWHERE if accepted is None else accepted.upstreams.get(upstream, _NOWHERE)
    return msgspec.structs.replace(
        here,
        declared=here.declared if before.reachable else NOTHING,
        resources=here.resources if before.resources is not None else None,
        prompts=here.prompts if before.prompts is not None else None,
        sampling=here.sampling if before.sampling is not None else None,
    )


def permissions_of_any(upstream: str, snapshot: Snapshot) -> UpstreamPermissions:
    """The most that any agent may do on an upstream."""
    every = [permissions_on(name, upstream, snapshot) for name in snapshot.agents]
    reachable = next((one for one in every if one.reachable), None)
    return UpstreamPermissions(
        declared=Selection(whole=_ANY) if reachable is not None else NOTHING,
        resources=next((one.resources for one in every if one.resources), None),
        prompts=next((one.prompts for one in every if one.prompts), None),
        sampling=next((one.sampling for one in every if one.sampling), None),
    )


_NOWHERE = UpstreamPermissions()
# Mutants: where there is no file, no line is told.
_ANY, _OBSERVED = Grant("the tools of all agents", "", 0), Grant("observe", "", 0)
_EVERYTHING = UpstreamPermissions(
    declared=Selection(whole=_OBSERVED),
    resources=_OBSERVED,
    prompts=_OBSERVED,
    sampling=_OBSERVED,
)
