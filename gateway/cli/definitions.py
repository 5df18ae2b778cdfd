"""What `check` and `pin` say of definitions: what is not as pinned, and what looks suspicious."""

from collections.abc import Iterable, Iterator, Mapping

from gateway.catalog.listing import UpstreamCatalog
from gateway.catalog.pins import REVIEW, Drift, Pins, drift
from gateway.catalog.scan import Told, scan
from gateway.cli.notes import Note
from gateway.config.load import Loaded
from gateway.policy.decide import decide
from gateway.policy.hollow import without_arguments
from gateway.policy.snapshot import AgentPermissions, Snapshot
from gateway.policy.values import Action, Context, Decision
from gateway.relay.survey import Surveyed


def reached(
    catalog: UpstreamCatalog, agents: Iterable[AgentPermissions], snapshot: Snapshot
) -> list[str]:
    """The raw names of the offered tools that any of the agents may call, whatever is pinned.

    Also those that a rule about another argument keeps from being called: to pin them shows it.
    """
    unpinned = without_arguments(snapshot)
    names = tuple(agent.name for agent in agents)
    return [
        tool
        for tool in catalog.tools
        if any(_decided(name, catalog, tool, unpinned).reachable for name in names)
    ]


def of_definitions(
    loaded: Loaded, agents: Iterable[AgentPermissions], surveyed: Mapping[str, Surveyed]
) -> Iterator[Note]:
    """What the definitions that were asked for give reason to look at."""
    agents = tuple(agents)
    pins = loaded.snapshot.pins
    for result in surveyed.values():
        if pins is not None and result.catalog is not None:
            for each in drift(pins, result.catalog, result.instructions):
                yield _drifted(pins, each)
            yield from _unpinned(pins, result.catalog, agents, loaded.snapshot)
    yield from of_texts(loaded, agents, loaded.snapshot, surveyed)


def of_texts(
    loaded: Loaded,
    agents: Iterable[AgentPermissions],
    snapshot: Snapshot,
    surveyed: Mapping[str, Surveyed],
) -> Iterator[Note]:
    """What is suspicious in the definitions of the tools that an agent may call."""
    agents = tuple(agents)
    told = {
        name: Told(result.catalog, reached(result.catalog, agents, snapshot), result.instructions)
        for name, result in surveyed.items()
        if result.catalog is not None
    }
    for sign in scan(told, loaded.settings.upstreams):
        entry = loaded.settings.upstreams[sign.upstream]
        yield Note(
            severity="warning",
            code=sign.code,
            message=sign.message,
            path=entry.path,
            line=entry.line,
            upstream=sign.upstream,
            tool=sign.tool or None,
        )


def _drifted(pins: Pins, each: Drift) -> Note:
    what = each.tool or f"The upstream {each.upstream!r}"
    part = {"definition": "definition", "text": "description", "instructions": "instructions"}
    sentence = f"{what}: its {part[each.part]} changed since it was pinned"
    if each.withheld:
        sentence += ", so it is withheld" if each.tool else ", so they are withheld"
    return Note(
        severity="warning",
        code="changed-instructions" if each.part == "instructions" else f"changed-{each.part}",
        message=f"{sentence}; {REVIEW}.",
        path=pins.path,
        line=each.line or 1,
        upstream=each.upstream,
        tool=each.tool or None,
    )


def _unpinned(
    pins: Pins,
    catalog: UpstreamCatalog,
    agents: tuple[AgentPermissions, ...],
    snapshot: Snapshot,
) -> Iterator[Note]:
    """Tools that are withheld because nobody has pinned them."""
    here = pins.upstreams.get(catalog.upstream)
    known = here.tools if here is not None else {}
    for tool, entry in catalog.tools.items():
        if pins.wildcards == "open" or entry.tool_id in known:
            continue
        verdicts = [(agent, _decided(agent.name, catalog, tool, snapshot)) for agent in agents]
        withheld = [(agent, verdict) for agent, verdict in verdicts if verdict.rule == "pin"]
        if withheld:
            agent, verdict = withheld[0]
            yield Note(
                severity="warning",
                code="unpinned-tool",
                message=f"{entry.tool_id} is not pinned, so it is withheld; {REVIEW}.",
                path=verdict.file,
                line=verdict.line,
                agent=agent.name,
                upstream=catalog.upstream,
                tool=entry.tool_id,
            )


def _decided(agent: str, catalog: UpstreamCatalog, tool: str, snapshot: Snapshot) -> Decision:
    action = Action("tool", "tools/list", catalog.upstream, tool)
    return decide(agent, action, snapshot, Context(catalog))
