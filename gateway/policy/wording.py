"""Rules in words, for people: on which arguments they depend (pure)."""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from gateway.policy.arguments import in_words, shown
from gateway.policy.rules import ArgumentRule
from gateway.policy.schemas import KEYWORDS

_MOST = 4
_STRUCTURE = frozenset(("properties", "items", "required", "type", "$defs", "$ref"))


def arguments_in_words(rule: ArgumentRule) -> str:
    """What a rule says of arguments, as far as that can be said shortly."""
    parts = list(_parts(json.loads(rule.written), "", rule.optional))
    if not parts:
        return "it has no arguments but those that the rule lists"
    text = "; ".join(parts[:_MOST])
    return text if len(parts) <= _MOST else f"{text}; and {len(parts) - _MOST} more"


def _parts(schema: Mapping[str, Any], name: str, optional: Collection[str]) -> Iterator[str]:
    words = [*map(_as_condition, in_words(schema)), *_others(schema)]
    if words and name:
        absent = " or is absent" if name in optional else ""
        yield f"{shown_name(name)} {' and '.join(words)}{absent}"
    elif words:
        # Of the arguments together little can be said shortly.
        yield "they are as the rest of the schema says"
    properties = schema.get("properties")
    for key, each in properties.items() if isinstance(properties, dict) else ():
        inner = f"{name}.{key}" if name else key
        if each is False:
            yield f"{shown_name(inner)} is absent"
        elif isinstance(each, dict):
            yield from _parts(each, inner, optional)
    items = schema.get("items")
    if isinstance(items, dict):
        yield from (f"each of {part}" for part in _parts(items, name, optional))


def _as_condition(sentence: str) -> str:
    """What must be, as what is."""
    for must, does in _MUST:
        if sentence.startswith(must):
            return does + sentence.removeprefix(must)
    return sentence


_MUST = (
    ("must be ", "is "),
    ("must have ", "has "),
    ("must match ", "matches "),
    ("must not have ", "does not have "),
)


def _others(schema: Mapping[str, Any]) -> Iterator[str]:
    """Guards, and keywords that are no short sentence."""
    for key, value in schema.items():
        if key not in KEYWORDS:
            yield f"passes {key} {shown(value)}"
    if any(key in schema for key in ("allOf", "anyOf", "oneOf", "not", "if", "$ref")):
        yield "is as its schema says"


def shown_name(name: str) -> str:
    """A name in a sentence."""
    return ascii(name[:60])
