"""The one decision function: called for listing, calling, every transport and `explain`."""

import difflib

from gateway.catalog.listing import ToolEntry
from gateway.catalog.names import normalise, tool_id, unfit
from gateway.policy.snapshot import AgentPermissions, Grant, Snapshot, UpstreamPermissions
from gateway.policy.values import Action, Context, Decision
from gateway.wire.methods import ActionKind

_NOWHERE = UpstreamPermissions()
# How alike two names must be to be mentioned: a bare name within the upstream that was asked, and
# a whole tool id elsewhere, which has much in common with every other one.
_ALIKE_HERE = 0.75
_ALIKE_ELSEWHERE = 0.85
_COMPARED_NAMES = 500
_COMPARED_CHARS = 128


def decide(agent: str | None, action: Action, snapshot: Snapshot, context: Context) -> Decision:
    """Decide one action of one agent. Pure; everything not allowed by name is denied.

    The result is provisional where the catalog would have the last word and is not known yet.
    """
    wanted, entry = "", None
    if action.kind == "tool":
        entry = context.catalog.tools.get(action.name) if context.catalog is not None else None
        wanted = entry.tool_id if entry is not None else tool_id(action.upstream, action.name)
    if agent is None:
        return Decision(
            "deny",
            "identity",
            "no agent is named for this connection; start the gateway with --agent NAME or set "
            "default_agent in gateway.yaml",
            tool_id=wanted,
        )
    permissions = snapshot.agents.get(agent)
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
    here = permissions.upstreams.get(action.upstream, _NOWHERE)
    if action.kind == "tool":
        return _decide_tool(permissions, here, action, context, wanted, entry)
    return _decide_other(permissions, here, action, snapshot, context)


def _decide_tool(
    agent: AgentPermissions,
    here: UpstreamPermissions,
    action: Action,
    context: Context,
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
    if context.catalog is None:
        return Decision(
            "allow",
            "declared tools",
            reason,
            declared.file,
            declared.line,
            wanted,
            provisional=True,
        )
    withheld = context.catalog.withheld.get(action.name)
    if withheld is not None:
        return _at("deny", "withheld", f"{wanted} is withheld: {withheld}", declared, tool=wanted)
    if entry is None:
        reason = (
            f"{wanted} is declared by the agent {agent.name!r}, but the upstream "
            f"{action.upstream!r} does not offer it now"
        )
        return _at("deny", "not offered", reason, declared, tool=wanted)
    return Decision(
        "allow",
        "declared tools",
        reason,
        declared.file,
        declared.line,
        wanted,
        # Of a listing's many decisions none is recorded, and most tools are never called.
        entry.digest if action.method != "tools/list" else "",
    )


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
    close = None if action.method == "tools/list" else _resembling(agent, action, wanted)
    return reason if close is None else f"{reason}; the declared tool {close} resembles it"


def _resembling(agent: AgentPermissions, action: Action, wanted: str) -> str | None:
    """The declared tool that was most likely meant: of the same upstream first, then of others."""
    elsewhere = list(agent.declared_ids)
    if action.upstream:
        prefix = tool_id(action.upstream, "")
        here = [name[len(prefix) :] for name in elsewhere if name.startswith(prefix)]
        close = _closest(normalise(action.name), here, _ALIKE_HERE)
        if close is not None:
            return prefix + close
        elsewhere = [name for name in elsewhere if not name.startswith(prefix)]
    return _closest(wanted, elsewhere, _ALIKE_ELSEWHERE)


def _closest(wanted: str, names: list[str], cutoff: float) -> str | None:
    spellings = {name[:_COMPARED_CHARS].lower(): name for name in names[:_COMPARED_NAMES]}
    close = difflib.get_close_matches(wanted[:_COMPARED_CHARS].lower(), spellings, 1, cutoff)
    return spellings[close[0]] if close else None


def _at(effect: str, rule: str, reason: str, grant: Grant, *, tool: str = "") -> Decision:
    return Decision(
        "allow" if effect == "allow" else "deny", rule, reason, grant.file, grant.line, tool
    )
