"""Which properties an argument rule constrains, and which of them a tool does not take (pure).

A constraint on a property that the tool does not take limits nothing: the argument that was meant
has another name. It is the commonest hole in rules, and a silent one.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from gateway.policy.rules import ArgumentRule

_MAX_DEPTH = 16  # mutants: a bound, of which no number is the right one
"""How many references or levels of a tool's schema are followed; what lies deeper is taken."""
_AROUND = ("allOf", "anyOf", "oneOf")

Step = str | None
"""The name of a property; None leads from a list to its items."""


class Constraint(msgspec.Struct, frozen=True):
    """A property that a rule says something about, and where it says so in the rule's schema."""

    steps: tuple[Step, ...]
    where: tuple[str | int, ...]


class Unknown(msgspec.Struct, frozen=True):
    """A constrained property that a tool does not take; `known` are those that it takes there."""

    name: str
    where: tuple[str | int, ...]
    known: tuple[str, ...]


def unknown_properties(rule: ArgumentRule, input_schema: Mapping[str, object]) -> tuple[str, ...]:
    """The names of the properties that the rule constrains and the tool does not take.

    Those inside of others have dots. `optional` ones do not count where unlisted arguments are
    refused anyway, nor does anything where the tool's schema says that it takes properties that it
    does not name.
    """
    return tuple(
        each.name for each in unknown_constraints(rule, constraints_of(rule), input_schema)
    )


def constraints_of(rule: ArgumentRule) -> tuple[Constraint, ...]:
    """Everything that a rule says something about."""
    import json  # most processes judge no arguments, and the client's hook must start fast

    return tuple(_constraints(json.loads(rule.schema), (), ()))


def unknown_constraints(
    rule: ArgumentRule,
    constraints: Iterable[Constraint],
    input_schema: Mapping[str, object],
) -> tuple[Unknown, ...]:
    """As `unknown_properties`, each with its place; `constraints` are those of the rule."""
    exempt = rule.optional if rule.unlisted == "refuse" else ()
    found: dict[str, Unknown] = {}
    for constraint in constraints:
        missing = _missing(constraint.steps, input_schema)
        if missing is not None:
            steps, known = missing
            name = dotted(steps)
            if name not in exempt:
                found.setdefault(name, Unknown(name, constraint.where, known))
    return tuple(found.values())


def dotted(steps: Iterable[Step]) -> str:
    """The name of a property inside of others, as `optional` has it."""
    return ".".join(step for step in steps if step is not None)


def _constraints(
    schema: object, steps: tuple[Step, ...], where: tuple[str | int, ...]
) -> Iterator[Constraint]:
    if not isinstance(schema, dict):
        return
    properties = schema.get("properties")
    for name, each in properties.items() if isinstance(properties, dict) else ():
        # `true` and `{}` only list a property.
        if each is True or each == {}:
            continue
        here = (*where, "properties", name)
        yield Constraint((*steps, name), here)
        yield from _constraints(each, (*steps, name), here)
    for name in schema.get("required", ()):
        if isinstance(name, str):
            yield Constraint((*steps, name), (*where, "required"))
    for key in (*_AROUND, "prefixItems"):
        inside = (*steps, None) if key == "prefixItems" else steps
        for index, each in enumerate(schema.get(key, ())):
            yield from _constraints(each, inside, (*where, key, index))
    for key in ("not", "if", "then", "else"):
        yield from _constraints(schema.get(key), steps, (*where, key))
    for key in ("items", "contains"):
        yield from _constraints(schema.get(key), (*steps, None), (*where, key))


def _missing(
    steps: Sequence[Step], root: Mapping[str, object]
) -> tuple[tuple[Step, ...], tuple[str, ...]] | None:
    """The part of a way that ends in a property that is not taken, and what is taken in its place.

    None where all of it is taken, or where that cannot be said.
    """
    level = _Level(root, [root], outermost=True)
    for position, step in enumerate(steps):
        if step is not None:
            if level.open:
                return None
            if step not in level.properties:
                return tuple(steps[: position + 1]), tuple(level.properties)
            level = _Level(root, level.properties[step], outermost=False)
        else:
            level = _Level(root, level.items, outermost=False)
    return None


class _Level:
    """What a tool's schema says about one value; `open`: it may have properties without a name.

    A tool that names no property takes none. Of a value inside of its arguments that is not said: a
    schema without names describes any object.
    """

    def __init__(
        self, root: Mapping[str, object], schemas: Iterable[object], *, outermost: bool
    ) -> None:
        self._root = root
        self.properties: dict[str, list[object]] = {}
        self.items: list[object] = []
        self.open = False
        for schema in schemas:
            self._look(schema, 0)  # mutants: one level more or less is as good a bound
        if not self.properties and not outermost:
            self.open = True

    def _look(self, schema: object, depth: int) -> None:
        if not isinstance(schema, dict):
            return
        if depth > _MAX_DEPTH:  # mutants: one level more or less is as good a bound
            self.open = True
            return
        properties = schema.get("properties")
        for name, each in properties.items() if isinstance(properties, dict) else ():
            if each is not False:
                self.properties.setdefault(name, []).append(each)
        for key in ("additionalProperties", "unevaluatedProperties", "patternProperties"):
            if schema.get(key) not in (None, False):
                self.open = True
        for key in _AROUND:
            inner = schema.get(key)
            for each in inner if isinstance(inner, list) else ():
                self._look(each, depth + 1)
        for key in ("then", "else"):
            self._look(schema.get(key), depth + 1)
        target = schema.get("$ref")
        if isinstance(target, str):
            self._look(_pointed(self._root, target), depth + 1)
        first = schema.get("prefixItems")
        self.items += first if isinstance(first, list) else []
        self.items.append(schema.get("items"))


def _pointed(root: object, target: str) -> object:
    found = root
    if not target.startswith("#/"):
        return None
    for part in target[2:].split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        found = found.get(key) if isinstance(found, dict) else None
    return found
