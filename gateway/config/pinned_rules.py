"""Holds rules against the definitions that are pinned: one about an argument that is none is wrong.

Part of compiling, not of each start: what was found valid is kept by the digests of all files.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence

from gateway.agents import AgentDefinition
from gateway.catalog.listing import build_catalog
from gateway.config import model
from gateway.config.held import as_they_are
from gateway.config.lock import Lock
from gateway.config.settings import Settings
from gateway.documents import Document
from gateway.errors import UserError
from gateway.policy.hollow import Hollow, hollow_rules
from gateway.policy.rules import Rule
from gateway.policy.taken import Unknown

_SHOWN = 3


def mismatches(
    settings: Settings,
    definitions: Sequence[AgentDefinition],
    lock: Lock,
    documents: Mapping[str, Document],
) -> Iterator[UserError]:
    """Every constraint of a rule on a property that a pinned tool does not take.

    Only for tools that an agent may call which the rule is about. `documents` are the policy files,
    by their paths.
    """
    if settings.pins is None or all(rule.arguments is None for rule in settings.policies):
        return
    snapshot = as_they_are(settings, definitions)
    found: dict[tuple[str, str], list[tuple[Hollow, Unknown]]] = {}
    for upstream, pinned in lock.upstreams.items():
        if upstream not in settings.upstreams:
            continue
        catalog = build_catalog(upstream, (each.definition for each in pinned.tools.values()))
        for hollow in hollow_rules(snapshot, catalog, tuple(snapshot.agents)):
            for unknown in hollow.unknown:
                key = (hollow.rule.name, unknown.name)
                found.setdefault(key, []).append((hollow, unknown))
    for each in found.values():
        yield _problem(each, lock, settings.pins.path, documents)


def _problem(
    found: Sequence[tuple[Hollow, Unknown]],
    lock: Lock,
    lock_path: str,
    documents: Mapping[str, Document],
) -> UserError:
    hollow, unknown = found[0]
    rule = hollow.rule
    tools = [each.tool.tool_id for each, _ in found]
    shown = ", ".join(tools[:_SHOWN])
    if len(tools) > _SHOWN:
        shown += f" and {len(tools) - _SHOWN} more"
    pin = next(
        upstream.tools[tools[0]].pin
        for upstream in lock.upstreams.values()
        if tools[0] in upstream.tools
    )
    place, line = _place(rule, unknown, documents)
    last = unknown.name.rpartition(".")[2]
    near = difflib.get_close_matches(last, unknown.known, 1)
    remedy = f"did you mean {near[0]!r}?" if near else "correct the name, or the tools of the rule."
    return UserError(
        f"{place} constrains {unknown.name!r}, which is no argument of {shown} as pinned "
        f"({lock_path}:{pin.line}), so it limits nothing; {remedy}",
        path=rule.file,
        line=line,
    )


def _place(rule: Rule, unknown: Unknown, documents: Mapping[str, Document]) -> tuple[str, int]:
    """The key in the policy file under which the property stands, and its line."""
    document = documents[rule.file]
    value = document.value
    rules = value.get("rules") if isinstance(value, dict) else None
    for index in range(len(rules) if isinstance(rules, list) else 0):
        if document.line("rules", index) == rule.line:
            where = ("rules", index, "arguments", *unknown.where)
            return model.dotted(where), document.line(*where)
    return f"the rule {rule.name!r}", rule.line
