"""The least tool list that recorded calls need, and arguments that never change (pure)."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from gateway.agents import AgentDefinition, ToolPattern
from gateway.catalog.names import normalise, tool_id
from gateway.policy.compile import meanings_of, owners_of

LEAST_CALLS = 3
"""So many calls must agree before something is called constant."""

_MAX_CONSTANTS = 20
_BRINGS = frozenset(("resource", "prompt", "completion"))
_UNCHANGEABLE = frozenset(("disallowed tools",))
"""Refusals that adding an entry would not lift."""


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """One call as the audit log has it; `kind` is that of the action, `arguments` the summary."""

    kind: str
    tool: str
    upstream: str
    effect: str
    enforced: bool
    rule: str
    arguments: Mapping[str, object] = {}


class Refusal(msgspec.Struct, frozen=True):
    """A tool that was asked for and is left out; `rule` is what refused it last."""

    tool: str
    calls: int
    rule: str


class Constant(msgspec.Struct, frozen=True):
    """Something that was the same in `calls` calls of a tool, and in all of them.

    `key` None: all arguments, as their digests tell. `value` is JSON text, None where only a digest
    is known.
    """

    tool: str
    calls: int
    key: str | None
    value: str | None


class Suggestion(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent file's list could be.

    `entries` is the whole list, `added` and `removed` how it differs. `unjudged` are entries that
    are kept because calls of them do not pass the gateway. `brought` are upstreams whose resources
    or prompts were used, and that are no longer declared whole.
    """

    entries: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    unjudged: tuple[str, ...]
    brought: tuple[str, ...]
    refused: tuple[Refusal, ...]
    constants: tuple[Constant, ...]


def suggest(
    definition: AgentDefinition, recorded: Iterable[Recorded], upstreams: Iterable[str]
) -> Suggestion:
    """The least list of the agent that `definition` defines.

    Needed is what was let through: allowed, or refused and only observed. An entry for a whole
    upstream becomes the tools that were called; what is no tool of `upstreams` stays.
    """
    known = tuple(upstreams)
    recorded = tuple(recorded)
    passed = [call for call in recorded if _passed(call)]
    needed = {call.tool: call.upstream for call in passed if call.kind == "tool"}
    kept: list[str] = []
    unjudged: list[str] = []
    covered: set[str] = set()
    whole: set[str] = set()
    for pattern in definition.tools:
        owners = owners_of(pattern, known)
        if len(owners) != 1:
            unjudged.append(pattern.text)
            kept.append(pattern.text)
        elif pattern.form != "tool":
            whole.update(owners)
        elif (meant := _tool_of(pattern, owners[0], known)) in needed:
            covered.add(meant)
            kept.append(pattern.text)
    if definition.inherits:
        kept += sorted({call.tool for call in passed if call.kind == "native"})
        whole.update(known)
    spelled = sorted(
        _entry(definition, tool, upstream)
        for tool, upstream in needed.items()
        if tool not in covered
    )
    entries = tuple(dict.fromkeys((*kept, *spelled)))
    before = {pattern.text for pattern in definition.tools}
    used = {call.upstream for call in passed if call.kind in _BRINGS}
    return Suggestion(
        entries=entries,
        added=tuple(entry for entry in entries if entry not in before),
        removed=tuple(dict.fromkeys(p.text for p in definition.tools if p.text not in entries)),
        unjudged=tuple(dict.fromkeys(unjudged)),
        brought=tuple(sorted(used & whole)),
        refused=_refused(recorded, needed),
        constants=tuple(_constants(passed)),
    )


def _passed(call: Recorded) -> bool:
    if call.effect == "allow" or call.effect == "ask":
        return True
    return not call.enforced and call.rule not in _UNCHANGEABLE


def _tool_of(pattern: ToolPattern, owner: str, upstreams: Sequence[str]) -> str:
    """The tool id that an entry for one tool means."""
    if pattern.server:
        return tool_id(owner, pattern.tool)
    ((_, tool),) = meanings_of(pattern.tool_id, upstreams)
    return tool_id(owner, tool)


def _entry(definition: AgentDefinition, tool: str, upstream: str) -> str:
    """A tool as the client of this file writes it."""
    if definition.dialect == "copilot":
        return f"{normalise(upstream)}/{tool.removeprefix(tool_id(upstream, ''))}"
    return tool


def _refused(recorded: Iterable[Recorded], needed: Mapping[str, str]) -> tuple[Refusal, ...]:
    counts: Counter[str] = Counter()
    rules: dict[str, str] = {}
    for call in recorded:
        if call.kind == "tool" and not _passed(call) and call.tool not in needed:
            counts[call.tool] += 1
            rules[call.tool] = call.rule
    return tuple(Refusal(tool, counts[tool], rules[tool]) for tool in sorted(counts))


def _constants(passed: Iterable[Recorded]) -> Iterable[Constant]:
    by_tool: dict[str, list[Mapping[str, object]]] = {}
    for call in passed:
        if call.kind == "tool":
            by_tool.setdefault(call.tool, []).append(call.arguments)
    for tool, summaries in sorted(by_tool.items()):
        if len(summaries) < LEAST_CALLS:
            continue
        texts = [_members(summary) for summary in summaries]
        members = [each for each in texts if each is not None]
        if len(members) == len(summaries):
            yield from _constant_members(tool, members)
        else:
            digests = {summary.get("digest") for summary in summaries}
            if len(digests) == 1 and None not in digests and summaries[0].get("size_bytes") != 2:
                yield Constant(tool, len(summaries), None, None)


def _constant_members(tool: str, members: Sequence[Mapping[str, object]]) -> Iterable[Constant]:
    """Members with one scalar value throughout, by their keys."""
    found = 0
    for key, value in members[0].items():
        if not isinstance(value, str | int | float | bool) or found == _MAX_CONSTANTS:
            continue
        text = json.dumps(value)
        if all(key in each and json.dumps(each[key]) == text for each in members):
            found += 1
            yield Constant(tool, len(members), key, text)


def _members(summary: Mapping[str, object]) -> Mapping[str, object] | None:
    """The arguments as a record has them, None where they are not all there."""
    text = summary.get("text")
    if not isinstance(text, str) or summary.get("text_cut") or summary.get("redacted"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
