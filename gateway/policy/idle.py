"""Rules that do nothing: they never match, or another one refuses all that they would (pure).

What is said of a rule is so. That nothing is said means little: patterns and schemas are compared
in plain cases only.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from gateway.catalog.listing import UpstreamCatalog
from gateway.catalog.names import tool_id
from gateway.policy.arguments import PATTERN_BYTES
from gateway.policy.decide import decide
from gateway.policy.rules import NO_RULES, ArgumentRule, Rule, could_match, matches
from gateway.policy.snapshot import AgentPermissions, Snapshot
from gateway.policy.values import Action, Context


class Shadow(msgspec.Struct, frozen=True):
    """A rule, and another one that refuses whatever it refuses."""

    rule: Rule
    by: Rule


def never_reached(snapshot: Snapshot, catalogs: Mapping[str, UpstreamCatalog]) -> Iterator[Rule]:
    """Rules about tools that none of their agents may call, as far as `catalogs` are known."""
    bare = msgspec.structs.replace(snapshot, pins=None, accepted_pins=None, rules=NO_RULES)
    for rule in snapshot.rules.rules:
        agents = [each for name, each in snapshot.agents.items() if _is_about(rule, name)]
        if not any(
            _may_reach(each, upstream, rule, bare, catalogs.get(upstream))
            for each in agents
            for upstream in each.upstreams
        ):
            yield rule


def without_tool(
    rule: Rule, snapshot: Snapshot, catalogs: Mapping[str, UpstreamCatalog]
) -> tuple[str, ...]:
    """The entries of a rule's `tools` that match nothing, where all that they may mean is known."""
    return tuple(
        pattern
        for pattern in rule.tools
        if all(
            name in catalogs
            and not any(matches(pattern, entry.tool_id) for entry in catalogs[name].tools.values())
            for name in snapshot.upstreams
            if could_match(pattern, tool_id(name, ""))
        )
    )


def contradicts_itself(rule: Rule) -> bool:
    """Whether no arguments are as the rule's schema says."""
    return rule.arguments is not None and _is_impossible(
        json.loads(rule.arguments.schema), of_object=True
    )


def shadows(rules: tuple[Rule, ...]) -> Iterator[Shadow]:
    """The rules that another one makes superfluous; of two that say the same, the latter."""
    alike: dict[Rule, list[Rule]] = {}
    for rule in rules:
        alike.setdefault(_conditions(rule), []).append(rule)
    for rule in rules:
        if rule.former:
            continue
        # A call that is denied is not asked about, nor counted. Each limit counts by itself.
        candidates = (
            *alike.get(_BARRING, ()),
            *(alike.get(_denial(rule), ()) if rule.effect == "ask" else ()),
            *(alike[_conditions(rule)] if rule.limits is None else ()),
        )
        by = next((other for other in candidates if _shadows(other, rule)), None)
        if by is not None:
            yield Shadow(rule, by)


def _shadows(other: Rule, rule: Rule) -> bool:
    """Whether `other`, which refuses on no more conditions, is about all that `rule` is about."""
    if other is rule or other.former or (other.observe and not rule.observe):
        return False
    if not _covers(other, rule):
        return False
    alike = _conditions(other) == _conditions(rule) and other.observe == rule.observe
    return not (alike and _covers(rule, other)) or other.place < rule.place


def _covers(other: Rule, rule: Rule) -> bool:
    # A `*` of the rule's own is a character here, which only a `*` of the other matches.
    tools = all(any(matches(wide, each) for wide in other.tools) for each in rule.tools)
    agents = not other.agents or (
        bool(rule.agents)
        and all(any(matches(wide, each) for wide in other.agents) for each in rule.agents)
    )
    return tools and agents


def _is_about(rule: Rule, agent: str) -> bool:
    return not rule.agents or any(matches(pattern, agent) for pattern in rule.agents)


def _may_reach(
    agent: AgentPermissions,
    upstream: str,
    rule: Rule,
    bare: Snapshot,
    catalog: UpstreamCatalog | None,
) -> bool:
    """Whether the agent could call a tool of the upstream that the rule is about."""
    prefix = tool_id(upstream, "")
    patterns = [pattern for pattern in rule.tools if could_match(pattern, prefix)]
    here = agent.upstreams[upstream]
    if not patterns or not here.reachable:
        return False
    ceiling = here.ceiling
    if catalog is not None:
        names = {entry.spelling: entry.name for entry in catalog.tools.values()}
    elif here.declared.whole is not None and (ceiling is None or ceiling.whole is not None):
        return True
    else:
        listed = (*here.declared.tools, *(ceiling.tools if ceiling is not None else ()))
        names = dict(zip(listed, listed, strict=True))
    return any(
        decide(
            agent.name, Action("tool", "tools/list", upstream, name), bare, Context(catalog)
        ).effect
        == "allow"
        for spelling, name in names.items()
        if any(matches(pattern, prefix + spelling) for pattern in patterns)
    )


def _conditions(rule: Rule) -> Rule:
    """The rule without what it is about and what it is called: when it refuses, and how."""
    nothing = {"name": "", "file": "", "line": 0, "message": "", "observe": False, "former": False}
    return msgspec.structs.replace(rule, tools=(), agents=(), arguments=_judged(rule), **nothing)


def _denial(rule: Rule) -> Rule:
    """What denies under the same conditions, as `_conditions` has it."""
    return Rule(
        name="", file="", line=0, effect="deny", tools=(), arguments=_judged(rule), when=rule.when
    )


def _judged(rule: Rule) -> ArgumentRule | None:
    if rule.arguments is None:
        return None
    return msgspec.structs.replace(rule.arguments, line=0, written="")


_BARRING = Rule(name="", file="", line=0, effect="deny", tools=())
"""What denies without any condition."""


# Schemas that nothing matches

_BOUNDS = (
    ("number", "minimum", "maximum"),
    ("string", "minLength", "maxLength"),
    ("array", "minItems", "maxItems"),
    ("object", "minProperties", "maxProperties"),
)


def _is_impossible(schema: object, *, of_object: bool = False) -> bool:
    """Whether no value matches; `of_object`: no mapping does."""
    if not isinstance(schema, dict):
        return schema is False
    if any(_is_impossible(each, of_object=of_object) for each in schema.get("allOf", ())):
        return True
    for key in ("anyOf", "oneOf"):
        branches = schema.get(key, ())
        if branches and all(_is_impossible(each, of_object=of_object) for each in branches):
            return True
    if "const" in schema or "enum" in schema:
        return _none_matches(schema)
    kinds = schema.get("type")
    only = kinds if isinstance(kinds, str) else "object" if of_object else ""
    for kind, least, most in _BOUNDS:
        if only in (kind, "integer" if kind == "number" else kind):
            low, high = schema.get(least), schema.get(most)
            if low is not None and high is not None and low > high:
                return True
    return only == "object" and _lacks_what_is_required(schema)


def _none_matches(schema: Mapping[str, Any]) -> bool:
    """Whether none of the values that a schema lists is as the rest of it says."""
    from jsonschema_rs import Draft202012Validator, RegexOptions

    options = RegexOptions(size_limit=PATTERN_BYTES, dfa_size_limit=PATTERN_BYTES)
    # Guards are not asked: what they refuse is not known here.
    validator = Draft202012Validator(dict(schema), pattern_options=options, offline=True)
    listed = schema["enum"] if "enum" in schema else [schema["const"]]
    return not any(validator.is_valid(value) for value in listed)


def _lacks_what_is_required(schema: Mapping[str, Any]) -> bool:
    properties = schema.get("properties", {})
    closed = schema.get("additionalProperties") is False and "patternProperties" not in schema
    return any(
        _is_impossible(properties[name]) if name in properties else closed
        for name in schema.get("required", ())
    )
