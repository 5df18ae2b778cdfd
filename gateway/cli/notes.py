"""What `gateway check` has to say: findings of files, of references, and of asked upstreams."""

import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import msgspec

from gateway.agents.definition import Severity
from gateway.catalog.drift import vanished
from gateway.catalog.listing import UpstreamCatalog
from gateway.catalog.names import tool_id
from gateway.config.launch import endpoint, launch
from gateway.config.load import Loaded
from gateway.config.settings import HttpEntry, UpstreamEntry
from gateway.errors import UserError
from gateway.policy.arguments import named
from gateway.policy.decide import decide
from gateway.policy.hollow import hollow_rules
from gateway.policy.snapshot import AgentPermissions, Snapshot, UpstreamPermissions
from gateway.policy.values import Action, Context
from gateway.relay.survey import Surveyed

_RESOLVED_AT_ONCE = 8
_WITHHELD_SHOWN = 20


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """A finding as `check` prints it; the last four say what it is about, where that is known.

    `successor` is the tool id of the likeliest successor of a declared tool that is gone.
    """

    severity: Severity
    code: str
    message: str
    path: str
    line: int
    agent: str | None = None
    upstream: str | None = None
    tool: str | None = None
    successor: str | None = None


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """How much of an upstream an agent declares and reaches.

    `declared` counts tools declared by name; `whole` says whether the agent declares every tool.
    `offered` and `reachable` are None where the upstream was not asked or gave no answer.
    """

    agent: str
    upstream: str
    declared: int
    whole: bool
    offered: int | None = None
    reachable: int | None = None


def of_files(loaded: Loaded, asked_for: str | None) -> Iterator[Note]:
    """The findings of loading and what is held back.

    Left out are those of the files of other agents than `asked_for`.
    """
    names = {definition.path: definition.name for definition in loaded.definitions}
    for finding in (*loaded.findings, *loaded.held):
        agent = names.get(finding.path)
        if asked_for is None or agent in (None, asked_for):
            yield Note(
                severity=finding.severity,
                code=finding.code,
                message=finding.message,
                path=finding.path,
                line=finding.line,
                agent=agent or None,
            )


def of_refusals(loaded: Loaded, asked_for: str | None) -> Iterator[Note]:
    """The agent that is to be served, where it may use nothing though its file is in order."""
    meant = asked_for or loaded.settings.default_agent
    for definition in loaded.definitions:
        agent = loaded.snapshot.agents.get(definition.name)
        if agent is None or agent.refusal is None or definition.status == "denied":
            continue
        if agent.name == meant:
            yield Note(
                severity="warning",
                code="agent-refused",
                message=f"The agent {agent.name!r} may use nothing: {agent.refusal.text}.",
                path=agent.refusal.file,
                line=agent.refusal.line,
                agent=agent.name,
            )


def of_references(loaded: Loaded) -> list[Note]:
    """The upstreams whose entries refer to something that has no value.

    Nothing is looked up for those that are held: a reference may be a command.
    """

    def problem(entry: UpstreamEntry) -> UserError | None:
        try:
            if isinstance(entry, HttpEntry):
                endpoint(entry, os.environ, root=loaded.settings.root)
            else:
                launch(entry, os.environ, root=loaded.settings.root)
        except UserError as error:
            return error
        return None

    entries = [
        entry
        for name, entry in loaded.settings.upstreams.items()
        if not loaded.snapshot.upstreams[name].held
    ]
    # In threads: a reference may wait for a command.
    with ThreadPoolExecutor(_RESOLVED_AT_ONCE) as pool:
        problems = list(pool.map(problem, entries))
    return [
        Note(
            severity="error",
            code="unresolved-reference",
            message=error.message,
            path=error.path or entry.path,
            line=error.line or entry.line,
            upstream=entry.name,
        )
        for entry, error in zip(entries, problems, strict=True)
        if error is not None
    ]


def of_survey(
    loaded: Loaded, agents: Iterable[AgentPermissions], surveyed: Mapping[str, Surveyed]
) -> Iterator[Note]:
    """What the upstreams' answers mean for the agents, or why an upstream gave none."""
    agents = tuple(agents)
    for name, result in surveyed.items():
        entry = loaded.settings.upstreams[name]
        if result.catalog is None:
            yield Note(
                severity="error",
                code="upstream-failed",
                message=result.problem,
                path=entry.path,
                line=entry.line,
                upstream=name,
            )
        else:
            yield from _withheld(entry, result.catalog)
            yield from _hollow_rules(loaded, agents, result.catalog)
    for agent in agents:
        for name, here in agent.upstreams.items():
            answer = surveyed.get(name)
            if answer is not None and answer.catalog is not None:
                yield from _drift(agent, here, answer.catalog)
                yield from _lost_restrictions(agent, here, answer.catalog, loaded.snapshot)


def _withheld(entry: UpstreamEntry, catalog: UpstreamCatalog) -> Iterator[Note]:
    withheld = list(catalog.withheld.items())
    sentences = [
        (name, f"The upstream {entry.name!r} offers {name[:128]!a}, which is withheld: {reason}.")
        for name, reason in withheld[:_WITHHELD_SHOWN]
    ]
    if len(withheld) > _WITHHELD_SHOWN:
        more = len(withheld) - _WITHHELD_SHOWN
        sentences.append(("", f"{more} more tools of the upstream {entry.name!r} are withheld."))
    for name, sentence in sentences:
        yield Note(
            severity="warning",
            code="withheld-tool",
            message=sentence,
            path=entry.path,
            line=entry.line,
            upstream=entry.name,
            tool=tool_id(entry.name, name) if name else None,
        )


def _drift(
    agent: AgentPermissions, here: UpstreamPermissions, catalog: UpstreamCatalog
) -> Iterator[Note]:
    """Tools that are declared by name and that the upstream does not offer."""
    for gone in vanished(here.declared.tools, catalog):
        grant = here.declared.tools[gone.name]
        successor = tool_id(catalog.upstream, gone.successor) if gone.successor else None
        remedy = "replace the entry, if that is what is meant" if successor else "remove the entry"
        yield Note(
            severity="warning",
            code="vanished-tool",
            message=f"{tool_id(catalog.upstream, gone.name)} is not offered by the upstream "
            f"{catalog.upstream!r}; likeliest successor: {successor or 'none'}; {remedy}.",
            path=grant.file,
            line=grant.line,
            agent=agent.name,
            upstream=catalog.upstream,
            tool=tool_id(catalog.upstream, gone.name),
            successor=successor,
        )


def _lost_restrictions(
    agent: AgentPermissions,
    here: UpstreamPermissions,
    catalog: UpstreamCatalog,
    snapshot: Snapshot,
) -> Iterator[Note]:
    """Disallowed tools that are gone, whose likeliest successor the agent may call."""
    for gone in vanished(here.disallowed.tools, catalog):
        if gone.successor is None or not _allowed(agent, catalog, gone.successor, snapshot):
            continue
        grant = here.disallowed.tools[gone.name]
        successor = tool_id(catalog.upstream, gone.successor)
        yield Note(
            severity="warning",
            code="lost-restriction",
            message=f"{tool_id(catalog.upstream, gone.name)} is disallowed, but the upstream "
            f"{catalog.upstream!r} does not offer it; its likeliest successor {successor} is "
            "allowed; disallow that too, if it is not meant.",
            path=grant.file,
            line=grant.line,
            agent=agent.name,
            upstream=catalog.upstream,
            tool=tool_id(catalog.upstream, gone.name),
            successor=successor,
        )


def _hollow_rules(
    loaded: Loaded, agents: Iterable[AgentPermissions], catalog: UpstreamCatalog
) -> Iterator[Note]:
    """Rules about arguments that a tool does not take; they refuse every call of it."""
    names = tuple(agent.name for agent in agents)
    for found in hollow_rules(loaded.snapshot, catalog, names):
        rule, tool = found.rule, found.tool.tool_id
        yield Note(
            severity="error",
            code="unknown-argument",
            message=f"The rule {rule.name!r} is about "
            f"{named([each.name for each in found.unknown])}, which {tool} does not take, so it "
            "refuses every call of it; correct the name, or the tools of the rule.",
            path=rule.file,
            line=rule.arguments.line if rule.arguments is not None else rule.line,
            agent=found.agent,
            upstream=catalog.upstream,
            tool=tool,
        )


def reaches_of(
    agent: AgentPermissions, snapshot: Snapshot, surveyed: Mapping[str, Surveyed]
) -> Iterator[Reach]:
    """One value for each upstream of which the agent declares anything."""
    for name, here in agent.upstreams.items():
        declared, whole = len(here.declared.tools), here.declared.whole is not None
        if not declared and not whole:
            continue
        result = surveyed.get(name)
        catalog = result.catalog if result is not None else None
        offered = reachable = None
        if catalog is not None:
            offered = len(catalog.tools)
            reachable = sum(_allowed(agent, catalog, tool, snapshot) for tool in catalog.tools)
        yield Reach(
            agent=agent.name,
            upstream=name,
            declared=declared,
            whole=whole,
            offered=offered,
            reachable=reachable,
        )


def _allowed(
    agent: AgentPermissions, catalog: UpstreamCatalog, tool: str, snapshot: Snapshot
) -> bool:
    action = Action("tool", "tools/list", catalog.upstream, tool)
    return decide(agent.name, action, snapshot, Context(catalog)).reachable
