"""The one decision function: called for listing, calling, every transport and `explain`."""

import msgspec

from gateway.catalog.listing import ToolEntry
from gateway.catalog.names import normalise, tool_id, unfit
from gateway.policy.snapshot import (
    AgentPermissions,
    Grant,
    Snapshot,
    UpstreamPermissions,
    UpstreamTraits,
)
from gateway.policy.values import Action, Context, Decision
from gateway.wire.methods import ActionKind

_NOWHERE = UpstreamPermissions()
_PLAIN = UpstreamTraits()
_NOBODY = (
    "no agent is named for this connection; start the gateway with --agent NAME or set "
    "default_agent in gateway.yaml"
)
_NOT_ACCEPTED = (
    "a person must accept this with `gateway trust` first: the files have granted it since they "
    "were last accepted"
)


def decide(agent: str | None, action: Action, snapshot: Snapshot, context: Context) -> Decision:
    """Decide one action of one agent. Pure; everything not allowed by name is denied.

    The result is provisional where the catalog would have the last word and is not known yet.
    """
    tool = action.kind == "tool"
    wanted, entry = "", None
    if tool:
        entry = context.catalog.tools.get(action.name) if context.catalog is not None else None
        wanted = entry.tool_id if entry is not None else tool_id(action.upstream, action.name)
    elif action.kind == "native":
        wanted = action.name
        if context.protected:
            return Decision("deny", "protected file", _protected(context.protected), tool_id=wanted)
    if action.upstream:
        traits = snapshot.upstreams.get(action.upstream, _PLAIN)
        if traits.held:
            return Decision("deny", "trust", traits.held, tool_id=wanted)
    permissions = snapshot.agents.get(agent) if agent is not None else None
    verdict = _by_lists(agent, permissions, action, snapshot, context, wanted, entry)
    if verdict.effect == "allow" and snapshot.accepted is not None and agent is not None:
        verdict = _as_accepted(verdict, agent, action, snapshot, context, wanted, entry)
    if verdict.effect != "allow":
        if not _observed(permissions, action, snapshot):
            return verdict
        verdict = msgspec.structs.replace(verdict, enforced=False)
    if not tool:
        return verdict
    verdict = _by_catalog(verdict, permissions, action, snapshot, context, entry)
    # What the lists refuse and is only observed would be refused by rules as well, or not: the
    # outcome is the same, and the lists are named.
    if verdict.effect != "allow" or agent is None:
        return verdict
    applying = snapshot.rules.applying(agent, wanted)
    if applying:
        from gateway.policy.narrowing import by_rules  # where there are rules

        observed = _observed(permissions, action, snapshot)
        verdict = by_rules(
            agent, verdict, applying, action, snapshot, context, entry, observed=observed
        )
    if context.approval is not None and context.approval.refusal:
        from gateway.policy.narrowing import unapproved

        return unapproved(verdict, context.approval)
    return verdict


def _by_lists(
    agent: str | None,
    permissions: AgentPermissions | None,
    action: Action,
    snapshot: Snapshot,
    context: Context,
    wanted: str,
    entry: ToolEntry | None,
) -> Decision:
    """What the agent's files and the operator's say, whatever the upstreams offer."""
    if agent is None:
        return Decision("deny", "identity", context.nobody or _NOBODY, tool_id=wanted)
    if permissions is None:
        return Decision(
            "deny",
            "identity",
            f"the agent {agent!r} is not defined in any agent file that the gateway reads",
            tool_id=wanted,
        )
    if permissions.refusal is not None:
        return _at(
            "deny",
            "agent file",
            f"the agent {agent!r} may use nothing: {permissions.refusal.text}",
            permissions.refusal,
            tool=wanted,
        )
    if action.kind == "native":
        return _decide_native(permissions, action.name)
    here = permissions.upstreams.get(action.upstream, _NOWHERE)
    if action.kind == "tool":
        return _decide_tool(permissions, here, action, wanted, entry)
    return _decide_other(permissions, here, action, snapshot, context)


def _as_accepted(
    verdict: Decision,
    agent: str,
    action: Action,
    snapshot: Snapshot,
    context: Context,
    wanted: str,
    entry: ToolEntry | None,
) -> Decision:
    """`verdict` where the agent as a person last accepted it is allowed the same."""
    accepted = (snapshot.accepted or {}).get(agent)
    if accepted is not None:
        earlier = _by_lists(agent, accepted, action, snapshot, context, wanted, entry)
        if earlier.effect == "allow":
            return verdict
    reason = f"{verdict.reason}, but {_NOT_ACCEPTED}"
    return Decision(
        "deny", "trust", reason, verdict.file, verdict.line, wanted, hidden=verdict.hidden
    )


def _observed(permissions: AgentPermissions | None, action: Action, snapshot: Snapshot) -> bool:
    """Whether a refusal by lists is only recorded. What is no known method is never let through."""
    if action.kind in ("unknown", "task"):
        return False
    if action.kind == "native" and snapshot.native_tools != "enforce":
        return True
    return snapshot.observe or (permissions is not None and permissions.observed)


def _decide_tool(
    agent: AgentPermissions,
    here: UpstreamPermissions,
    action: Action,
    wanted: str,
    entry: ToolEntry | None,
) -> Decision:
    spelling = entry.spelling if entry is not None else normalise(action.name)
    refused = here.disallowed.find(spelling)
    if refused is not None:
        reason = f"{wanted} is disallowed for the agent {agent.name!r} by {refused.text!r}"
        return _at("deny", "disallowed tools", reason, refused, tool=wanted)
    problem = unfit(action.name) if entry is None else None
    if problem is not None:
        reason = f"{wanted} cannot be declared by the agent {agent.name!r}: {problem}"
        return Decision("deny", "not declared", reason, agent.file, agent.line, wanted)
    declared = here.declared.find(spelling)
    if declared is None:
        return Decision(
            "deny",
            "not declared",
            _undeclared(agent, action, wanted),
            agent.file,
            agent.line,
            wanted,
        )
    if here.ceiling is not None and here.ceiling.find(spelling) is None:
        reason = (
            f"{wanted} is declared by the agent {agent.name!r}, but not within the operator's "
            "max_tools for it"
        )
        return _at("deny", "ceiling", reason, agent.ceiling or declared, tool=wanted)
    reason = f"{wanted} is declared by the agent {agent.name!r} as {declared.text!r}"
    return Decision("allow", "declared tools", reason, declared.file, declared.line, wanted)


def _by_catalog(
    verdict: Decision,
    permissions: AgentPermissions | None,
    action: Action,
    snapshot: Snapshot,
    context: Context,
    entry: ToolEntry | None,
) -> Decision:
    """A tool that may go on as far as the lists are concerned: what the upstream has to say."""
    if context.catalog is None:
        return msgspec.structs.replace(verdict, provisional=True)
    wanted, file, line = verdict.tool_id, verdict.file, verdict.line
    withheld = context.catalog.withheld.get(action.name)
    if withheld is None and entry is None:
        withheld = unfit(action.name)
    if withheld is not None:
        reason = f"{wanted} is withheld: {withheld}"
        return Decision("deny", "withheld", reason, file, line, wanted)
    if entry is None:
        reason = f"{verdict.reason}, but the upstream {action.upstream!r} does not offer it now"
        return Decision("deny", "not offered", reason, file, line, wanted)
    if snapshot.pinned:
        refused = _by_pins(verdict, permissions, action, snapshot, entry)
        if refused is not None:
            return refused
    # Of a listing's many decisions none is recorded, and most tools are never called.
    if action.method == "tools/list":
        return verdict
    return Decision(
        verdict.effect,
        verdict.rule,
        verdict.reason,
        file,
        line,
        wanted,
        entry.digest,
        enforced=verdict.enforced,
    )


def _by_pins(
    verdict: Decision,
    permissions: AgentPermissions | None,
    action: Action,
    snapshot: Snapshot,
    entry: ToolEntry,
) -> Decision | None:
    """The refusal of a tool that is not what it was when a person looked at it."""
    named = _is_named(permissions, action.upstream, entry.spelling, snapshot)
    for pins, rule in ((snapshot.pins, "pin"), (snapshot.accepted_pins, "trust")):
        found = None if pins is None else pins.objection(action.upstream, entry, named=named)
        if pins is None or found is None:
            continue
        file, line, reason = verdict.file, verdict.line, found.reason
        if rule == "trust":
            reason = (
                f"{pins.path} would release it, but what it said when a person last accepted it "
                "does not; a person accepts the change with `gateway trust`"
            )
        elif found.line:
            file, line = pins.path, found.line
        reason = f"{entry.tool_id} is withheld: {reason}"
        return Decision("deny", rule, reason, file, line, entry.tool_id, entry.digest)
    return None


def _is_named(
    permissions: AgentPermissions | None, upstream: str, spelling: str, snapshot: Snapshot
) -> bool:
    """Whether the agent's list, or the operator's ceiling for it, names this very tool.

    So must those that a person last accepted: to name a tool must not be a way around its pin.
    """
    if permissions is None:
        return False
    forms = [permissions]
    if snapshot.accepted is not None:
        accepted = snapshot.accepted.get(permissions.name)
        if accepted is None:
            return False
        forms.append(accepted)
    reaches = [form.upstreams.get(upstream, _NOWHERE) for form in forms]
    return all(
        spelling in here.declared.tools
        or (here.ceiling is not None and spelling in here.ceiling.tools)
        for here in reaches
    )


def _decide_native(agent: AgentPermissions, name: str) -> Decision:
    refused = agent.natives_disallowed.find(name)
    if refused is not None:
        reason = f"{name} is disallowed for the agent {agent.name!r} by {refused.text!r}"
        return _at("deny", "disallowed tools", reason, refused, tool=name)
    declared = agent.natives.find(name)
    if declared is None:
        reason = f"{name} is not declared by the agent {agent.name!r}"
        return Decision("deny", "not declared", reason, agent.file, agent.line, name)
    reason = f"{name} is declared by the agent {agent.name!r} as {declared.text!r}"
    return _at("allow", "declared tools", reason, declared, tool=name)


def _decide_other(
    agent: AgentPermissions,
    here: UpstreamPermissions,
    action: Action,
    snapshot: Snapshot,
    context: Context,
) -> Decision:
    grant = _grant(agent, here, action.kind, context)
    if grant is not None:
        reason = (
            f"{action.method} on {action.upstream!r} is granted to the agent {agent.name!r} by "
            f"{grant.text!r}"
        )
        return _at("allow", _RULES[action.kind], reason, grant)
    traits = snapshot.upstreams.get(action.upstream)
    passes = traits is not None and traits.passthrough_unknown and here.reachable
    if action.kind == "unknown" and passes:
        reason = f"the upstream {action.upstream!r} has passthrough_unknown: true"
        return Decision("allow", "passthrough_unknown", reason)
    return Decision(
        "deny",
        _RULES[action.kind],
        f"{action.method} on {action.upstream!r} is not granted to the agent {agent.name!r}",
        agent.file,
        agent.line,
        hidden=True,
    )


_RULES: dict[ActionKind, str] = {
    "resource": "resources",
    "prompt": "prompts",
    "completion": "completion",
    "sampling": "sampling",
    "elicitation": "elicitation",
    "roots": "roots",
    "logging": "logging",
    "task": "tasks",
    "session": "session",
    "list": "listing",
    "unknown": "unknown method",
}


def _grant(
    agent: AgentPermissions, here: UpstreamPermissions, kind: ActionKind, context: Context
) -> Grant | None:
    """The entry that allows an action other than a tool call.

    Resources, prompts and sampling have grants of their own; a completion needs that of what it
    completes, which the caller names as the action. Whoever reaches a tool of the upstream may set
    its log level and be asked by it (elicitation, roots); a task is its starter's.
    """
    if kind == "resource":
        return here.resources
    if kind == "prompt":
        return here.prompts
    if kind == "completion":
        return here.prompts or here.resources
    if kind == "sampling":
        return here.sampling
    present = Grant("declared tools", agent.file, agent.line) if here.reachable else None
    if kind == "task":
        return present if context.owns_task else None
    if kind in ("logging", "elicitation", "roots", "session", "list"):
        return present or here.resources or here.prompts
    return None


def _undeclared(agent: AgentPermissions, action: Action, wanted: str) -> str:
    reason = f"{wanted} is not declared by the agent {agent.name!r}"
    # A listing asks about thousands of tools, and nobody reads why one is left out.
    if action.method == "tools/list":
        return reason
    from gateway.policy.suggest import resembling  # most processes refuse nothing

    close = resembling(agent, action, wanted)
    return reason if close is None else f"{reason}; the declared tool {close} resembles it"


def _protected(file: str) -> str:
    return (
        f"{file} says what agents may do, so no agent changes it through the client's tools; a "
        "person edits it, then runs `gateway trust`"
    )


def _at(effect: str, rule: str, reason: str, grant: Grant, *, tool: str = "") -> Decision:
    return Decision(
        "allow" if effect == "allow" else "deny", rule, reason, grant.file, grant.line, tool
    )
