"""Reads the JSON Schema of a rule: refuses what would be a silent hole, says what is left unsaid.

JSON Schema is open where a policy must be closed: a key that is absent, one that is not named, and
a value of another type all pass. What is judged by is therefore a completed copy. In every rule, a
constrained property is required and a pattern is compared with the whole text. In `allow-only-if`
also: keywords about one type demand that type, and what is not listed is refused. Under `not` and
`if`, and about types in the other effects, adding anything would allow more, so nothing is added.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec

from gateway.policy import guards
from gateway.policy.arguments import PATTERN_BYTES, UNANCHORED, Matcher
from gateway.policy.rules import ArgumentRule, RuleEffect, Unlisted

MAX_DEPTH = 24
MAX_NODES = 2_000
MAX_PATTERN_CHARS = 1_000
MAX_SCHEMA_CHARS = 100_000

_ONE = (
    *("additionalProperties", "unevaluatedProperties", "propertyNames", "items"),
    *("unevaluatedItems", "contains", "not", "if", "then", "else"),
)
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_MAPS = ("properties", "patternProperties", "dependentSchemas")
_IN_PLACE = frozenset(("allOf", "anyOf", "oneOf", "dependentSchemas", "then", "else", "if", "not"))
_NEGATIVE = frozenset(("not", "if"))
_UNSURE = _NEGATIVE | {"oneOf", "contains"}
"""Where a schema that does not match may make the one around it match."""
ANNOTATIONS = frozenset(
    (
        *("title", "description", "examples", "default", "deprecated", "readOnly", "writeOnly"),
        *("$comment", "$schema"),
    )
)
_TYPES: Mapping[str, tuple[str, ...]] = {
    "string": ("pattern", "minLength", "maxLength", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "array": (
        *("items", "prefixItems", "contains", "minItems", "maxItems", "uniqueItems"),
        *("minContains", "maxContains", "unevaluatedItems"),
    ),
    "object": (
        *("properties", "patternProperties", "additionalProperties", "unevaluatedProperties"),
        *("propertyNames", "required", "dependentRequired", "dependentSchemas"),
        *("minProperties", "maxProperties"),
    ),
}
_VALUES = frozenset(
    (
        *("type", "const", "enum", "$ref", "$defs", UNANCHORED),
        *(word for words in _TYPES.values() for word in words),
        *ANNOTATIONS,
    )
)
KEYWORDS = frozenset((*_ONE, *_LISTS, *_MAPS, *_VALUES))
_NEEDS = {"then": "if", "else": "if", "minContains": "contains", "maxContains": "contains"}
_DEFINITION = re.compile(r"#/\$defs/([^/~%]+)")
_EVIDENT = re.compile(r"(\^|\.\*).*(\$|\.\*)", re.DOTALL)
_DIALECTS = (
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2020-12/schema#",
)

Where = tuple[str | int, ...]


class SchemaProblem(msgspec.Struct, frozen=True):
    """What is wrong with a schema; `where` leads to it from the schema's root."""

    where: Where
    sentence: str


def read_schema(
    written: Mapping[str, object],
    *,
    effect: RuleEffect,
    line: int,
    unlisted: Unlisted = "refuse",
    optional: Sequence[str] = (),
) -> ArgumentRule | tuple[SchemaProblem, ...]:
    """The argument rule that a schema is, or everything that is wrong with it.

    `optional` names properties, those inside others with dots: `filter.table`.
    """
    reader = _Reader(written, effect, unlisted, frozenset(optional), guards.names())
    completed = reader.node(written, (), _Place())
    for name in optional:
        if name not in reader.properties and not reader.problems:
            reader.blame((), f"has no property {name!r}, which optional names; correct one of them")
    if reader.problems:
        return tuple(reader.problems)
    try:
        text = json.dumps(completed, allow_nan=False)
        used = tuple(sorted(reader.used))
        rule = ArgumentRule(json.dumps(written), text, line, unlisted, tuple(optional), used)
    except ValueError:
        return (SchemaProblem((), "has a number that JSON cannot write; use a finite one"),)
    if len(text) > MAX_SCHEMA_CHARS:
        return (SchemaProblem((), f"is longer than {MAX_SCHEMA_CHARS} characters; shorten it"),)
    return _compiled(rule)


def _compiled(rule: ArgumentRule) -> ArgumentRule | tuple[SchemaProblem, ...]:
    """The rule, where the validator takes it."""
    from jsonschema_rs import ReferencingError, ValidationError

    try:
        Matcher(rule)
    except ValidationError as error:
        where = tuple(error.instance_path)
        detail = error.message.splitlines()[0][:300]
        return (SchemaProblem(where, f"is no valid JSON Schema 2020-12: {detail}"),)
    except (ReferencingError, ValueError, TypeError) as error:
        detail = (str(error).splitlines() or [type(error).__name__])[0][:300]
        return (SchemaProblem((), f"cannot be used: {detail}"),)
    return rule


class _Place(msgspec.Struct, frozen=True):
    """Where in a schema a node stands.

    `negative`: what it matches is refused or decides on something else. `unsure`: not matching may
    allow more. `in_place`: it speaks of the same value as the schema around it. `path` leads to the
    value, None where it has no name.
    """

    depth: int = 0
    negative: bool = False
    unsure: bool = False
    in_place: bool = False
    path: tuple[str, ...] | None = ()
    through: tuple[str, ...] = ()


class _Reader:
    def __init__(
        self,
        root: Mapping[str, object],
        effect: RuleEffect,
        unlisted: Unlisted,
        optional: frozenset[str],
        guard_names: Collection[str],
    ) -> None:
        definitions = root.get("$defs")
        self.definitions = definitions if isinstance(definitions, dict) else {}
        self.narrows = effect == "allow-only-if"
        self.closes = self.narrows and unlisted == "refuse"
        self.optional = optional
        self.guards = frozenset(guard_names)
        self.used: set[str] = set()
        self.properties: set[str] = set()
        self.problems: list[SchemaProblem] = []
        self.nodes = 0
        self.known = KEYWORDS | self.guards

    def blame(self, where: Where, sentence: str) -> None:
        self.problems.append(SchemaProblem(where, sentence))

    def node(self, schema: object, where: Where, place: _Place) -> object:
        """The completed copy of one schema."""
        self.nodes += 1
        if place.depth > MAX_DEPTH or self.nodes > MAX_NODES:
            if not self.problems or self.problems[-1].sentence != _TOO_BIG:
                self.blame(where, _TOO_BIG)
            return False
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            self.blame(where, "must be a schema: a mapping of keywords, true or false")
            return False
        done: dict[str, object] = {}
        for key, value in schema.items():
            if key in ("$ref", "$defs", UNANCHORED) or key in ANNOTATIONS:
                continue
            if key not in self.known:
                self.blame((*where, key), _unknown(key, self.known))
            elif key in _MAPS or key in _LISTS or key in _ONE:
                done[key] = self.inner(key, value, (*where, key), place)
            elif key in self.guards:
                done[key] = self.guard(key, value, (*where, key), place)
            elif key == "pattern":
                done[key] = self.pattern(schema, value, (*where, key), place)
            else:
                done[key] = value
        self.check(schema, where, place)
        if "$ref" in schema:
            branches = done.setdefault("allOf", [])
            if isinstance(branches, list):
                branches.append(self.reference(schema["$ref"], (*where, "$ref"), place))
        return self.completed(done, place)

    def inner(self, key: str, value: object, where: Where, place: _Place) -> object:
        """The schemas that a keyword holds."""
        within = msgspec.structs.replace(
            place,
            depth=place.depth + 1,
            negative=place.negative or key in _NEGATIVE,
            unsure=place.unsure or key in _UNSURE,
            in_place=key in _IN_PLACE,
            path=place.path if key in _IN_PLACE or key in ("items", "prefixItems") else None,
        )
        if key in _ONE:
            return self.node(value, where, within)
        if key in _LISTS:
            if not isinstance(value, list):
                self.blame(where, "must be a list of schemas")
                return []
            return [self.node(each, (*where, n), within) for n, each in enumerate(value)]
        if not isinstance(value, dict):
            self.blame(where, "must be a mapping of names to schemas")
            return {}
        inner = {}
        for name, each in value.items():
            named = within
            if key == "properties" and place.path is not None:
                named = msgspec.structs.replace(within, path=(*place.path, name))
                self.properties.add(".".join((*place.path, name)))
            written = name
            if key == "patternProperties":
                written = self.anchored(name, (*where, name), plain=None, place=place)
            inner[written] = self.node(each, (*where, name), named)
        return inner

    def guard(self, name: str, options: object, where: Where, place: _Place) -> object:
        self.used.add(name)
        if place.unsure or not self.narrows:
            self.blame(where, _GUARD_REFUSES)
        try:
            guards.build(name, options)
        except guards.OptionsError as error:
            inside = tuple(error.key.split(".")) if error.key else ()
            self.blame((*where, *inside), f"is no option of {name!r}: {error.problem}")
        except guards.UnknownGuard as error:
            self.blame(where, f"cannot be used: {error}")
        return options

    def pattern(
        self, schema: Mapping[str, object], value: object, where: Where, place: _Place
    ) -> object:
        plain = schema.get(UNANCHORED)
        if not isinstance(value, str):
            return value  # the validator says what is wrong
        return self.anchored(value, where, plain=plain, place=place)

    def anchored(self, pattern: str, where: Where, *, plain: object, place: _Place) -> str:
        """A pattern as it is judged by; `plain` is what the schema says about anchors."""
        if len(pattern) > MAX_PATTERN_CHARS:
            self.blame(where, f"is longer than {MAX_PATTERN_CHARS} characters; shorten it")
            return "^$"
        problem = _pattern_problem(pattern)
        if problem:
            self.blame(where, problem)
            return "^$"
        refusing = place.negative or not self.narrows
        if refusing and plain is None and not _EVIDENT.fullmatch(pattern):
            self.blame(
                where,
                "refuses what it matches, so say how: begin with ^ or .* and end with $ or .*, or "
                f"add {UNANCHORED}: true (found anywhere in the text) or false (the whole text)",
            )
        return pattern if plain is True else f"^(?:{pattern})$"

    def reference(self, target: object, where: Where, place: _Place) -> object:
        """What a reference stands for, put in its place."""
        found = _DEFINITION.fullmatch(target) if isinstance(target, str) else None
        name = found[1] if found else ""
        if not found or name not in self.definitions:
            self.blame(where, "must be #/$defs/NAME of the rule's own $defs; nothing is fetched")
            return False
        if name in place.through:
            self.blame(where, "leads back to itself; write out as many levels as are meant")
            return False
        within = msgspec.structs.replace(
            place, depth=place.depth + 1, in_place=True, through=(*place.through, name)
        )
        return self.node(self.definitions[name], ("$defs", name), within)

    def check(self, schema: Mapping[str, object], where: Where, place: _Place) -> None:
        """Keywords that say nothing where they stand."""
        if where and "$defs" in schema and place.depth:
            self.blame((*where, "$defs"), "must stand at the root of the schema")
        for key, other in _NEEDS.items():
            if key in schema and other not in schema:
                self.blame((*where, key), f"does nothing without {other}; add it or remove this")
        if UNANCHORED in schema:
            if "pattern" not in schema:
                self.blame((*where, UNANCHORED), "does nothing without pattern; remove it")
            if not isinstance(schema[UNANCHORED], bool):
                self.blame((*where, UNANCHORED), "must be true or false")
        if schema.get("$schema", _DIALECTS[0]) not in _DIALECTS:
            self.blame((*where, "$schema"), f"must be {_DIALECTS[0]}; nothing else is read")

    def completed(self, done: dict[str, object], place: _Place) -> dict[str, object]:
        """What the file leaves unsaid, said."""
        if place.negative:
            return done
        properties = done.get("properties")
        if isinstance(properties, dict) and isinstance(done.get("required", []), list):
            self.require(done, properties, place)
        if not self.narrows:
            return done
        if "type" not in done and "const" not in done and "enum" not in done:
            implied = [kind for kind, words in _TYPES.items() if not done.keys().isdisjoint(words)]
            if implied:
                done["type"] = implied[0] if len(implied) == 1 else implied
        if self.closes and not place.in_place:
            _close(done)
        return done

    def require(
        self, done: dict[str, object], properties: Mapping[str, object], place: _Place
    ) -> None:
        """A constraint on a property that is absent would be none."""
        required = done.get("required", [])
        assert isinstance(required, list)
        path = place.path
        added = [
            name
            for name, schema in properties.items()
            if isinstance(schema, dict)
            and schema
            and name not in required
            and (path is None or ".".join((*path, name)) not in self.optional)
        ]
        # `true` and `{}` list a property without a constraint; `false` wants it to be absent.
        if added:
            done["required"] = [*required, *added]


_GUARD_REFUSES = (
    "is a guard, which refuses what it cannot judge: it belongs in allow-only-if, outside of not, "
    "if, oneOf and contains"
)
_TOO_BIG = f"is nested deeper than {MAX_DEPTH} levels, or has more than {MAX_NODES} parts"


def _close(done: dict[str, object]) -> None:
    if "prefixItems" in done:
        done.setdefault("items", False)
    if done.keys().isdisjoint(("additionalProperties", "unevaluatedProperties")):
        composed = not done.keys().isdisjoint(_IN_PLACE)
        if "properties" in done or "patternProperties" in done or any(_lists_properties(done)):
            done["unevaluatedProperties" if composed else "additionalProperties"] = False


def _lists_properties(done: Mapping[str, object]) -> Iterator[bool]:
    """Whether schemas about the same value list properties."""
    for key in ("allOf", "anyOf", "oneOf", "then", "else", "if", "dependentSchemas"):
        value = done.get(key)
        inner = value if isinstance(value, list) else [value]
        if isinstance(value, dict) and key == "dependentSchemas":
            inner = list(value.values())
        for each in inner:
            if isinstance(each, dict) and ("properties" in each or any(_lists_properties(each))):
                yield True


def _pattern_problem(pattern: str) -> str:
    """What keeps a pattern from being used, by itself: one that closes the anchors' brackets is
    none."""
    from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError

    options = RegexOptions(size_limit=PATTERN_BYTES, dfa_size_limit=PATTERN_BYTES)
    try:
        for text in (pattern, f"^(?:{pattern})$"):
            Draft202012Validator({"pattern": text}, pattern_options=options, offline=True)
    except ValidationError:
        return (
            "is no pattern for a linear-time engine (no look-around, no back-references, bounded "
            "size); rewrite it"
        )
    except ValueError:
        return "is text that cannot be encoded; rewrite it"
    return ""


def _unknown(key: str, known: Collection[str]) -> str:
    import difflib

    near = difflib.get_close_matches(key, sorted(known), 1)
    return "is no keyword that is judged" + (
        f"; did you mean {near[0]!r}?" if near else "; remove it, or correct its name"
    )
