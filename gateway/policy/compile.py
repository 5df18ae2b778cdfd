"""Compiles agent definitions and the operator's entries into the tables that decide() looks up.

Patterns are resolved here, against the configured upstreams, and nowhere else: a name that two
upstreams could own is refused, never guessed by splitting it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from gateway.agents import AgentDefinition, Dialect, Finding, ToolPattern
from gateway.catalog.names import normalise, tool_id
from gateway.policy.approval import Terms
from gateway.policy.rules import Rule, RuleSet, with_former
from gateway.policy.snapshot import (
    DEFAULT_TERMS,
    AgentPermissions,
    Govern,
    Grant,
    Grants,
    NativeSelection,
    OperatorEntry,
    Selection,
    Snapshot,
    Standing,
    UpstreamPermissions,
    UpstreamTraits,
)

_NO_ENTRY = OperatorEntry(max_tools=None, grants=Grants(), path="", line=0)


MAIN_THREAD = "@main-thread"
BUILT_IN = "@built-in"
"""The agents of callers without an agent file; no file can define an agent with an @."""


class Rules(msgspec.Struct, frozen=True):
    """What a snapshot is compiled from besides the upstreams."""

    definitions: Sequence[AgentDefinition] = ()
    operators: Mapping[str, OperatorEntry] = {}
    main_thread: Standing | None = None
    builtin_agents: Standing | None = None
    policies: Sequence[Rule] = ()


def compile_snapshot(
    rules: Rules,
    upstreams: Mapping[str, UpstreamTraits],
    digest: str,
    *,
    accepted: Rules | None = None,
    observe: bool = False,
    native_tools: Govern = "off",
    default_agent: str | None = None,
    approvals: Terms = DEFAULT_TERMS,
) -> Snapshot:
    """Build the tables for every named agent over every configured upstream.

    `accepted` are the rules that a person last accepted, None where these are they.
    """
    names = tuple(upstreams)
    return Snapshot(
        _compile_agents(rules, names),
        dict(upstreams),
        digest,
        accepted=None if accepted is None else _compile_agents(accepted, names),
        main_thread=_standing_for(rules.main_thread, MAIN_THREAD),
        builtin_agents=_standing_for(rules.builtin_agents, BUILT_IN),
        observe=observe,
        native_tools=native_tools,
        default_agent=default_agent,
        approvals=approvals,
        rules=RuleSet(with_former(rules.policies, () if accepted is None else accepted.policies)),
    )


def resolution_findings(
    definitions: Iterable[AgentDefinition], upstreams: Iterable[str]
) -> tuple[Finding, ...]:
    """Entries that no upstream, or more than one, could own."""
    known = tuple(upstreams)
    return tuple(
        finding
        for definition in definitions
        for finding in (
            *_unresolved_grants(definition, known),
            *_unresolved_refusals(definition, known),
        )
    )


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


def meanings_of(wanted: str, upstreams: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Every (upstream, normalised tool name) that the tool id `wanted` could mean."""
    return tuple((name, tool) for name in upstreams if (tool := _tool_on(name, wanted)))


def _tool_on(upstream: str, wanted: str) -> str:
    """The normalised tool name that a tool id means on `upstream`, "" where it means none."""
    prefix = tool_id(upstream, "")
    return wanted[len(prefix) :] if wanted.startswith(prefix) else ""


def _spelling(pattern: ToolPattern, upstream: str) -> str:
    """The normalised tool name that the entry means on `upstream`, "" where it means none."""
    return normalise(pattern.tool) if pattern.server else _tool_on(upstream, pattern.tool_id)


def _owners_of_refusal(
    pattern: ToolPattern, dialect: Dialect, upstreams: Iterable[str]
) -> tuple[str, ...]:
    """The upstreams that an entry takes away from, in every way it could be read.

    OpenCode matches `srv_*` with `server_tool`, so there it also refuses a server `srv_two`.
    """
    known = tuple(upstreams)
    owners = owners_of(pattern, known)
    if dialect != "opencode" or pattern.form != "server":
        return owners
    prefix = f"{normalise(pattern.server)}_"
    return tuple(name for name in known if name in owners or normalise(name).startswith(prefix))


def _unresolved_grants(
    definition: AgentDefinition, upstreams: tuple[str, ...]
) -> Iterator[Finding]:
    for pattern in definition.tools:
        owners = owners_of(pattern, upstreams)
        if len(owners) == 1 or pattern.form not in ("tool", "server"):
            continue
        if owners:
            yield Finding(
                "ambiguous-entry",
                "error",
                f"{pattern.text!r} could belong to the upstreams {_listed(owners)}; it grants "
                "nothing until one of them is renamed in gateway.yaml",
                definition.path,
                pattern.line,
            )
        else:
            yield Finding(
                "unknown-upstream",
                "warning",
                f"{pattern.text!r} names no configured upstream (there are: "
                f"{_listed(upstreams)}) and grants nothing; correct or remove it",
                definition.path,
                pattern.line,
            )


def _unresolved_refusals(
    definition: AgentDefinition, upstreams: tuple[str, ...]
) -> Iterator[Finding]:
    owners: dict[tuple[str, int], set[str]] = {}
    for pattern in definition.disallowed:
        if pattern.form in ("tool", "server"):
            # OpenCode's entries stand here once for each way to read them.
            entry = owners.setdefault((pattern.text, pattern.line), set())
            entry.update(_owners_of_refusal(pattern, definition.dialect, upstreams))
    for (text, line), names in owners.items():
        if not names:
            yield Finding(
                "unknown-upstream",
                "warning",
                f"{text!r} names no configured upstream (there are: {_listed(upstreams)}) and "
                "refuses nothing; correct or remove it",
                definition.path,
                line,
            )
        elif len(names) > 1 and definition.dialect != "opencode":
            yield Finding(
                "ambiguous-entry",
                "warning",
                f"{text!r} could belong to the upstreams {_listed(sorted(names))}, so it is "
                "refused on each of them; rename one of them in gateway.yaml",
                definition.path,
                line,
            )


def _compile_agents(rules: Rules, upstreams: tuple[str, ...]) -> dict[str, AgentPermissions]:
    agents = {
        definition.name: _compile_agent(
            definition, rules.operators.get(definition.name, _NO_ENTRY), upstreams
        )
        for definition in rules.definitions
        if definition.name
    }
    for name, standing in ((MAIN_THREAD, rules.main_thread), (BUILT_IN, rules.builtin_agents)):
        if standing is not None and standing.agent is None:
            agents[name] = _compile_standing(name, standing, upstreams)
    return agents


def _standing_for(standing: Standing | None, name: str) -> str | None:
    return None if standing is None else standing.agent or name


def _compile_standing(
    name: str, standing: Standing, upstreams: tuple[str, ...]
) -> AgentPermissions:
    """An agent without a file: it inherits everything, within the ceiling that the operator set."""
    key = "main_thread" if name == MAIN_THREAD else "builtin_agents"
    definition = AgentDefinition(
        name=name,
        path=standing.path,
        dialect="claude",
        status="ok",
        inherits=True,
        tools=(),
        disallowed=(),
        findings=(),
        tools_line=standing.line,
        digest="",
    )
    if standing.observe:
        text = f"it has no list of its own; {key} says that it is observed only"
        refusal = Grant(text, standing.path, standing.line)
        return AgentPermissions(
            name, standing.path, standing.line, {}, (), refusal=refusal, observed=True
        )
    operator = OperatorEntry(standing.max_tools or (), Grants(), standing.path, standing.line)
    return _compile_agent(definition, operator, upstreams)


def _compile_agent(
    definition: AgentDefinition, operator: OperatorEntry, upstreams: tuple[str, ...]
) -> AgentPermissions:
    declared = _granting(definition.tools, definition.path, upstreams)
    disallowed = _refusing(definition, upstreams)
    refusal = _refusal(definition, operator)
    if definition.inherits:
        everything = Grant("every tool (inherited)", definition.path, definition.tools_line)
        declared = {name: Selection(whole=everything) for name in upstreams}
    ceiling = None
    if operator.max_tools is not None:
        ceiling = _granting(operator.max_tools, operator.path, upstreams)
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
        declared_ids=_declared_ids(permissions),
        refusal=refusal,
        ceiling=Grant("max_tools", operator.path, operator.line) if ceiling is not None else None,
        natives=_natives(definition, definition.tools, upstreams),
        natives_disallowed=_natives(definition, definition.disallowed, upstreams, inherits=False),
        observed=operator.observe,
    )


def _natives(
    definition: AgentDefinition,
    patterns: Iterable[ToolPattern],
    upstreams: tuple[str, ...],
    *,
    inherits: bool | None = None,
) -> NativeSelection:
    """The entries about tools that no upstream here has: the client's own, and other servers'.

    Only the client of the Claude dialect has a hook that asks about them. An entry such as
    `Bash(git:*)` selects all of Bash, as it does there.
    """
    if definition.dialect != "claude":
        return NativeSelection()
    tools: dict[str, Grant] = {}
    servers: dict[str, Grant] = {}
    for pattern in patterns:
        grant = Grant(pattern.text, definition.path, pattern.line)
        if pattern.form == "native":
            tools.setdefault(pattern.text.partition("(")[0], grant)
        elif pattern.form == "every_server":
            servers.setdefault("mcp__", grant)
        elif not owners_of(pattern, upstreams):
            if pattern.form == "tool":
                tools.setdefault(pattern.tool_id, grant)
            elif pattern.form == "server":
                servers.setdefault(tool_id(pattern.server, ""), grant)
    whole = None
    if definition.inherits if inherits is None else inherits:
        whole = Grant("every tool (inherited)", definition.path, definition.tools_line)
    return NativeSelection(tools, servers, whole)


def _declared_ids(upstreams: Mapping[str, UpstreamPermissions]) -> tuple[str, ...]:
    return tuple(
        tool_id(name, tool)
        for name, here in upstreams.items()
        for tool in here.declared.tools
        if here.disallowed.find(tool) is None
        and (here.ceiling is None or here.ceiling.find(tool) is not None)
    )


def _refusal(definition: AgentDefinition, operator: OperatorEntry) -> Grant | None:
    if definition.name.startswith("@") and definition.digest:
        text = "an agent's name cannot begin with @; rename it"
        return Grant(text, definition.path, definition.tools_line)
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


def _granting(
    patterns: Iterable[ToolPattern], path: str, upstreams: tuple[str, ...]
) -> dict[str, Selection]:
    """What entries give, by upstream; one that several upstreams could own gives nothing."""
    owned = [(pattern, owners_of(pattern, upstreams)) for pattern in patterns]
    return _selections(
        (entry for entry in owned if len(entry[1]) == 1 or entry[0].form == "every_server"), path
    )


def _refusing(definition: AgentDefinition, upstreams: tuple[str, ...]) -> dict[str, Selection]:
    """What the disallowed entries take away, by upstream; each wherever it could belong."""
    owned = (
        (pattern, _owners_of_refusal(pattern, definition.dialect, upstreams))
        for pattern in definition.disallowed
    )
    return _selections(owned, definition.path)


def _selections(
    owned: Iterable[tuple[ToolPattern, tuple[str, ...]]], path: str
) -> dict[str, Selection]:
    """Tables of entries with their upstreams; where two say the same, the first is kept."""
    whole: dict[str, Grant] = {}
    tools: dict[str, dict[str, Grant]] = {}
    for pattern, owners in owned:
        grant = Grant(pattern.text, path, pattern.line)
        for name in owners:
            if pattern.form == "tool":
                tools.setdefault(name, {}).setdefault(_spelling(pattern, name), grant)
            else:
                whole.setdefault(name, grant)
    names = dict.fromkeys((*whole, *tools))
    return {name: Selection(whole.get(name), tools.get(name, {})) for name in names}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
