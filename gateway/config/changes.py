"""What agents may do more or less than they might: two sets of permissions compared (pure).

Compared is what `decide` says of everything that either of them names, and of one thing that
neither does; whatever the upstreams offer, nothing else can come out differently.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import count

import msgspec

from gateway.catalog.names import normalise, tool_id
from gateway.policy.decide import decide
from gateway.policy.snapshot import AgentPermissions, Snapshot, UpstreamPermissions
from gateway.policy.values import Action, Context
from gateway.wire.methods import ActionKind

_NOWHERE = UpstreamPermissions()
_CONTEXT = Context()
_KINDS: tuple[tuple[ActionKind, str, str], ...] = (
    ("resource", "resources/read", "the resources of"),
    ("prompt", "prompts/get", "the prompts of"),
    ("sampling", "sampling/createMessage", "sampling by"),
)


class AgentChange(msgspec.Struct, frozen=True):
    """How an agent's reach differs: tool ids, native tools, and whatever else it may use."""

    name: str
    file: str
    line: int
    gained: tuple[str, ...]
    lost: tuple[str, ...]


def compare_agents(
    before: Mapping[str, AgentPermissions], after: Mapping[str, AgentPermissions]
) -> tuple[AgentChange, ...]:
    """Every agent that may do something now that it might not, or the other way round."""
    changes = []
    for name in dict.fromkeys((*after, *before)):
        one, other = before.get(name), after.get(name)
        if one == other:
            continue
        had, has = _reaches(one, other)
        if had != has:
            shown = other or one
            assert shown is not None
            gained = tuple(item for item in has if item not in had)
            lost = tuple(item for item in had if item not in has)
            changes.append(AgentChange(name, shown.file, shown.line, gained, lost))
    return tuple(changes)


def _reaches(*agents: AgentPermissions | None) -> tuple[dict[str, None], ...]:
    """What each of the forms of one agent may do, told over everything that any of them names."""
    known = [agent for agent in agents if agent is not None]
    questions: dict[str, Action] = {}
    for text, action in _questions(known):
        # One tool id may mean tools of two upstreams, of which only one is there still.
        questions[f"{text} (of {action.upstream!r})" if text in questions else text] = action
    reaches: list[dict[str, None]] = []
    for agent in agents:
        reach: dict[str, None] = {}
        if agent is not None:
            if agent.observed:
                reach["everything, observed only"] = None
            snapshot = Snapshot({agent.name: agent}, {}, "", native_tools="enforce")
            for text, action in questions.items():
                if decide(agent.name, action, snapshot, _CONTEXT).effect == "allow":
                    reach[text] = None
        reaches.append(reach)
    return tuple(reaches)


def _questions(agents: Iterable[AgentPermissions]) -> Iterator[tuple[str, Action]]:
    agents = tuple(agents)
    for upstream in dict.fromkeys(name for agent in agents for name in agent.upstreams):
        forms = [agent.upstreams.get(upstream, _NOWHERE) for agent in agents]
        tools = _named(forms)
        # Two upstreams may be spelled alike in tool ids.
        whose = "" if normalise(upstream) == upstream else f" (of {upstream!r})"
        for tool in tools:
            action = Action("tool", "tools/call", upstream, tool)
            yield f"{tool_id(upstream, tool)}{whose}", action
        other = _unnamed(tools)
        yield f"{tool_id(upstream, '')}*{whose}", Action("tool", "tools/call", upstream, other)
        for kind, method, words in _KINDS:
            yield f"{words} {upstream}", Action(kind, method, upstream)
    lists = [each for agent in agents for each in (agent.natives, agent.natives_disallowed)]
    names = list(dict.fromkeys(name for each in lists for name in each.tools))
    prefixes = list(dict.fromkeys(prefix for each in lists for prefix in each.servers))
    other = _unnamed(names)
    for name in names:
        yield name, Action("native", "PreToolUse", "", name)
    for prefix in prefixes:
        yield (
            f"{prefix}* (not behind the gateway)",
            Action("native", "PreToolUse", "", prefix + other),
        )
    yield "every other tool of the client", Action("native", "PreToolUse", "", other)


def _named(forms: Iterable[UpstreamPermissions]) -> list[str]:
    """The tools that an upstream's permissions name in any way."""
    tools: dict[str, None] = {}
    for form in forms:
        for selection in (form.declared, form.disallowed, form.ceiling):
            if selection is not None:
                tools.update(dict.fromkeys(selection.tools))
    return list(tools)


def _unnamed(names: Collection[str]) -> str:
    """A name that is none of `names`."""
    return next(name for number in count() if (name := f"other{number}") not in names)
