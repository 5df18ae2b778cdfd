"""Compiles agent definitions and the operator's entries into the tables that decide() looks up.

Patterns are resolved here, against the configured upstreams, and nowhere else: a name that two
upstreams could own is refused, never guessed by splitting it.
"""

from collections.abc import Iterable, Mapping, Sequence

from gateway.agents import AgentDefinition, Finding, ToolPattern
from gateway.catalog.names import normalise
from gateway.policy.snapshot import (
    AgentPermissions,
    Grant,
    Grants,
    OperatorEntry,
    Selection,
    Snapshot,
    UpstreamPermissions,
    UpstreamTraits,
)

_NO_ENTRY = OperatorEntry(max_tools=None, grants=Grants(), path="", line=0)


def compile_snapshot(
    definitions: Sequence[AgentDefinition],
    operators: Mapping[str, OperatorEntry],
    upstreams: Mapping[str, UpstreamTraits],
    digest: str,
) -> Snapshot:
    """Build the tables for every named agent over every configured upstream."""
    agents = {
        definition.name: _compile_agent(
            definition, operators.get(definition.name, _NO_ENTRY), tuple(upstreams)
        )
        for definition in definitions
        if definition.name
    }
    return Snapshot(agents, dict(upstreams), digest)


def resolution_findings(
    definitions: Iterable[AgentDefinition], upstreams: Iterable[str]
) -> tuple[Finding, ...]:
    """Declared entries that no upstream, or more than one, could own."""
    known = tuple(upstreams)
    findings = []
    for definition in definitions:
        for pattern in (*definition.tools, *definition.disallowed):
            if pattern.form not in ("tool", "server"):
                continue
            owners = owners_of(pattern, known)
            if len(owners) == 1:
                continue
            if owners:
                code, severity = "ambiguous-entry", "error"
                message = (
                    f"{pattern.text!r} could belong to the upstreams {_listed(owners)}; it grants "
                    "nothing until one of them is renamed in gateway.yaml"
                )
            else:
                code, severity = "unknown-upstream", "warning"
                message = (
                    f"{pattern.text!r} names no configured upstream (there are: {_listed(known)}) "
                    "and grants nothing"
                )
            findings.append(
                Finding(
                    code=code,
                    severity="error" if severity == "error" else "warning",
                    message=message,
                    path=definition.path,
                    line=pattern.line,
                )
            )
    return tuple(findings)


def owners_of(pattern: ToolPattern, upstreams: Iterable[str]) -> tuple[str, ...]:
    """The upstreams that an entry could belong to."""
    if pattern.form == "every_server":
        return tuple(upstreams)
    if pattern.form == "server":
        wanted = normalise(pattern.server)
        return tuple(name for name in upstreams if wanted in (name, normalise(name)))
    if pattern.form == "tool" and pattern.server:
        return tuple(name for name in upstreams if pattern.server in (name, normalise(name)))
    if pattern.form == "tool":
        return tuple(name for name in upstreams if _spelling(pattern, name))
    return ()


def _spelling(pattern: ToolPattern, upstream: str) -> str:
    """The normalised tool name that the entry means on `upstream`, "" where it means none."""
    if pattern.server:
        return normalise(pattern.tool)
    prefix = f"mcp__{normalise(upstream)}__"
    return pattern.tool_id[len(prefix) :] if pattern.tool_id.startswith(prefix) else ""


def _compile_agent(
    definition: AgentDefinition, operator: OperatorEntry, upstreams: tuple[str, ...]
) -> AgentPermissions:
    declared = _select(definition.tools, definition.path, upstreams)
    disallowed = _select(definition.disallowed, definition.path, upstreams, ambiguous=True)
    refusal = _refusal(definition, operator)
    if definition.inherits:
        everything = Grant("every tool (inherited)", definition.path, definition.tools_line)
        declared = {name: Selection(whole=everything) for name in upstreams}
    ceiling = None
    if operator.max_tools is not None:
        ceiling = _select(operator.max_tools, operator.path, upstreams)
    permissions = {}
    for name in upstreams:
        cap = None if ceiling is None else ceiling.get(name, Selection())
        chosen = declared.get(name, Selection())
        refused = disallowed.get(name, Selection())
        brought = _brought(chosen, refused, cap)
        grants = operator.grants
        permissions[name] = UpstreamPermissions(
            declared=chosen,
            disallowed=refused,
            ceiling=cap,
            resources=_granted("resources", grants.resources, name, operator) or brought,
            prompts=_granted("prompts", grants.prompts, name, operator) or brought,
            sampling=_granted("sampling", grants.sampling, name, operator),
        )
    return AgentPermissions(
        name=definition.name,
        file=definition.path,
        line=definition.tools_line,
        upstreams={} if refusal is not None else permissions,
        declared_ids=tuple(
            dict.fromkeys(pattern.tool_id for pattern in definition.tools if pattern.tool_id)
        ),
        refusal=refusal,
    )


def _refusal(definition: AgentDefinition, operator: OperatorEntry) -> Grant | None:
    if definition.status == "denied":
        for finding in definition.findings:
            if finding.severity == "error":
                return Grant(finding.message, finding.path, finding.line)
        return Grant("the agent file cannot be read safely", definition.path, 1)
    if definition.inherits and operator.max_tools is None:
        return Grant(
            "it declares no list of its own and inherits every tool, which needs a ceiling: set "
            f"agents.{definition.name}.max_tools in gateway.yaml, or list its tools",
            definition.path,
            definition.tools_line,
        )
    return None


def _brought(chosen: Selection, refused: Selection, cap: Selection | None) -> Grant | None:
    """A server that is declared whole, and not cut, brings its resources and prompts."""
    if refused.whole is not None or (cap is not None and cap.whole is None):
        return None
    return chosen.whole


def _granted(
    kind: str, granted: tuple[str, ...], upstream: str, operator: OperatorEntry
) -> Grant | None:
    if upstream not in granted:
        return None
    return Grant(f"grants.{kind}: {upstream}", operator.path, operator.line)


def _select(
    patterns: Iterable[ToolPattern],
    path: str,
    upstreams: tuple[str, ...],
    *,
    ambiguous: bool = False,
) -> dict[str, Selection]:
    """The selection per upstream. `ambiguous`: an entry that several could own counts for each."""
    whole: dict[str, Grant] = {}
    tools: dict[str, dict[str, Grant]] = {}
    for pattern in patterns:
        owners = owners_of(pattern, upstreams)
        if len(owners) > 1 and not ambiguous and pattern.form != "every_server":
            continue
        grant = Grant(pattern.text, path, pattern.line)
        for name in owners:
            if pattern.form == "tool":
                tools.setdefault(name, {}).setdefault(_spelling(pattern, name), grant)
            else:
                whole.setdefault(name, grant)
    return {name: Selection(whole.get(name), tools.get(name, {})) for name in {*whole, *tools}}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
