"""Argument rules at work: whether arguments match, why not, and how a tool's schema is narrowed."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gateway.catalog.listing import ToolEntry
from gateway.policy.rules import REMEMBERED, ArgumentRule, Rule, RuleSet
from gateway.policy.taken import unknown_properties

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError

    from gateway.policy.guards.keyword import Job, Verdicts

Answers = Mapping["Job", str | None]
"""What slow guards said of a call's arguments: None where they have nothing against them."""

UNANCHORED = "x-unanchored"
PATTERN_BYTES = 1024 * 1024  # mutants: a bound, of which no number is the right one
"""What a compiled pattern may take; the engine itself is linear in the text."""

_SHOWN_CHARS = 200
_SHOWN_NAMES = 3


class Matcher:
    """The compiled form of an argument rule. Not for two threads at once, where it has guards."""

    def __init__(self, rule: ArgumentRule) -> None:
        """Raises what jsonschema_rs does, and what a guard does that cannot be built."""
        # Imported here: it takes 50 ms, and most configurations have no argument rule.
        from jsonschema_rs import Draft202012Validator, RegexOptions

        keywords: dict[str, type] = {}
        self._verdicts: Verdicts | None = None
        if rule.guards:
            from gateway.policy.guards import keyword

            self._verdicts = verdicts = keyword.Verdicts()
            keywords = {name: keyword.keyword(name, verdicts) for name in rule.guards}
        self._validator = Draft202012Validator(
            _decoded(rule.schema),
            validate_formats=True,
            ignore_unknown_formats=False,
            pattern_options=RegexOptions(size_limit=PATTERN_BYTES, dfa_size_limit=PATTERN_BYTES),
            keywords=keywords,
            offline=True,  # mutants: no reference that could be fetched is read in the first place
        )

    def matches(self, arguments: Mapping[str, object], answers: Answers) -> bool:
        """Whether arguments match; `answers` are those of slow guards. What fails does not."""
        verdicts = self._verdicts
        if verdicts is None:
            return self._validator.is_valid(arguments)
        matched = verdicts.judge(answers, lambda: self._validator.is_valid(arguments))
        return matched and not verdicts.failed

    def mismatch(self, arguments: Mapping[str, object], answers: Answers) -> str:
        """Why arguments do not match, for a model; never with the value of an argument."""
        found = self.errors(arguments, answers)[:_SHOWN_NAMES]
        return "; ".join(dict.fromkeys(_words(error) for error in found))

    def errors(self, arguments: Mapping[str, object], answers: Answers) -> "list[ValidationError]":
        """Everything that does not match, in the order of its places."""

        def every() -> "list[ValidationError]":
            return list(self._validator.iter_errors(arguments))

        found = every() if self._verdicts is None else self._verdicts.judge(answers, every)
        found.sort(key=lambda error: ([str(each) for each in error.instance_path], error.message))
        return found

    def jobs(self, arguments: Mapping[str, object]) -> "tuple[Job, ...]":
        """What slow guards must be asked before these arguments are judged."""
        if self._verdicts is None:
            return ()
        return self._verdicts.collect(lambda: self._validator.evaluate(arguments))


def matcher(rule: ArgumentRule, rules: RuleSet) -> Matcher:
    """The compiled form of an argument rule, compiled once for `rules`."""
    found = rules.compiled.get(rule.schema)
    if isinstance(found, Matcher):
        return found
    made = rules.compiled[rule.schema] = Matcher(rule)
    return made


def slow_jobs(
    agent: str, tool_id: str, arguments: Mapping[str, object], rules: RuleSet
) -> "tuple[Job, ...]":
    """What slow guards must be asked before a call is decided; raises where a rule is broken."""
    jobs: dict[Job, None] = {}
    for rule in rules.applying(agent, tool_id):
        if rule.arguments is not None and rule.arguments.guards:
            jobs.update(dict.fromkeys(matcher(rule.arguments, rules).jobs(arguments)))
    return tuple(jobs)


def not_taken(
    rule: ArgumentRule, entry: ToolEntry, rules: RuleSet, *, listing: bool = False
) -> tuple[str, ...]:
    """`unknown_properties` of a tool, remembered; not for a `listing`, which wants no digests."""
    schema = entry.definition.get("inputSchema")
    taken = schema if isinstance(schema, dict) else {}
    if listing:
        return unknown_properties(rule, taken)
    key = (entry.digest, rule.schema, rule.optional, rule.unlisted)
    found = rules.unknown.get(key)
    if found is None:
        if len(rules.unknown) >= REMEMBERED:  # mutants: it is never more
            rules.unknown.clear()
        found = rules.unknown[key] = unknown_properties(rule, taken)
    return found


def narrowed(schema: Mapping[str, object], rules: Iterable[Rule]) -> dict[str, object]:
    """A tool's input schema with the limits that rules set, as a model reads them best.

    Per property, since some clients take no `allOf` at the top. Only what `allow-only-if` demands
    and enforces is shown; what cannot be written in JSON Schema is told in words.
    """
    result: dict[str, object] = dict(schema)
    for rule in rules:
        if rule.effect != "allow-only-if" or rule.observe or rule.arguments is None:
            continue
        limits = _decoded(rule.arguments.schema)
        if isinstance(limits, dict):
            _narrow(result, limits, rule)
    return result


def _narrow(result: dict[str, object], limits: Mapping[str, Any], rule: Rule) -> None:
    taken = result.get("properties")
    properties = dict(taken) if isinstance(taken, dict) else {}
    limited = limits.get("properties", {})
    for name, limit in limited.items():
        if limit is False:
            properties.pop(name, None)
        elif isinstance(limit, dict) and (limit or name not in properties):
            before = properties.get(name)
            properties[name] = _limited(before if isinstance(before, dict) else {}, limit, rule)
    if limits.get("additionalProperties") is False and "patternProperties" not in limits:
        properties = {name: each for name, each in properties.items() if name in limited}
        result["additionalProperties"] = False
    result["properties"] = properties
    before = result.get("required")
    required = [*(before if isinstance(before, list) else ()), *limits.get("required", ())]
    if required:
        result["required"] = list(dict.fromkeys(required))


def _limited(before: Mapping[str, Any], limit: Mapping[str, Any], rule: Rule) -> dict[str, object]:
    """One property with a limit; both hold."""
    from gateway.policy.schemas import KEYWORDS

    result = dict(before)
    rest = {}
    words = []
    for key, value in limit.items():
        if key not in KEYWORDS:
            words.append(f"{key} {shown(value)}")
        elif key not in result:
            result[key] = value
        elif key == "enum" and isinstance(result[key], list):
            result[key] = [each for each in result[key] if each in value]
        elif key in _TIGHTER and _is_number(result[key]) and _is_number(value):
            result[key] = _TIGHTER[key](result[key], value)
        elif result[key] != value and key != "type":
            rest[key] = value
    if rest:
        branches = result.get("allOf")
        result["allOf"] = [*(branches if isinstance(branches, list) else ()), rest]
    words = [*in_words(limit), *words]
    told = f"Limited by policy {rule.name}: {rule.message or '; '.join(words) or 'see schema'}"
    said = result.get("description")
    text = f"{told.rstrip('.')}."
    result["description"] = f"{said.rstrip()} {text}" if isinstance(said, str) and said else text
    return result


_TIGHTER: Mapping[str, Any] = {
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), min),
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), max),
}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def in_words(limit: Mapping[str, Any]) -> Iterator[str]:
    """What a schema says of a value by itself."""
    for key, value in limit.items():
        sentence = _SENTENCES.get(key)
        if sentence is not None and key not in ("required", "type"):
            yield sentence.format(shown(value))


_SENTENCES: Mapping[str, str] = {
    "const": "must be {}",
    "enum": "must be one of {}",
    "pattern": "must match {}",
    "format": "must be written as {}",
    "type": "must be of type {}",
    "minimum": "must be at least {}",
    "maximum": "must be at most {}",
    "exclusiveMinimum": "must be greater than {}",
    "exclusiveMaximum": "must be less than {}",
    "multipleOf": "must be a multiple of {}",
    "minLength": "must have at least {} characters",
    "maxLength": "must have at most {} characters",
    "minItems": "must have at least {} items",
    "maxItems": "must have at most {} items",
    "minProperties": "must have at least {} properties",
    "maxProperties": "must have at most {} properties",
    "uniqueItems": "must not have an item twice",
}


def _words(error: "ValidationError") -> str:
    where = path_in_words(error.instance_path)
    subject = f"the argument {where}" if where else "the arguments"
    kind = error.kind
    name = kind.name
    names = list(getattr(kind, "unexpected", ()))
    if names:
        inside = f" inside {where}" if where else ""
        return f"{named(names)} is not allowed{inside}"
    if name == "required":
        missing = _shown_name(str(getattr(kind, "property", "")))
        return f"{missing} is missing{f' inside {where}' if where else ''}"
    if name == "falseSchema":
        return f"{subject} is not allowed"
    if name in _SENTENCES:
        return f"{subject} {_SENTENCES[name].format(shown(kind.value))}"
    if hasattr(kind, "keyword"):
        # A guard's own words, which tell what it refuses.
        return f"{subject}: {error.message[:_SHOWN_CHARS]}"
    return f"{subject} must be as the rule's {name!r} says"


def named(names: Sequence[str]) -> str:
    """Names of arguments in a sentence; they may be a model's."""
    told = ", ".join(_shown_name(name) for name in names[:_SHOWN_NAMES])
    more = len(names) - _SHOWN_NAMES
    return f"{told} and {more} more" if more > 0 else told


def path_in_words(where: Sequence[str | int]) -> str:
    text = ""
    for key in where:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return _shown_name(text) if text else ""


def _shown_name(name: str) -> str:
    return ascii(name[:60])


def shown(value: object) -> str:
    """A value of a rule, never one of a call; cut where it is long."""
    items = value if isinstance(value, list) else [value]
    text = ", ".join(_encoded(each) for each in items)
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 3] + "..."


def _decoded(text: str) -> Any:
    import json  # most processes judge no arguments, and the client's hook must start fast

    return json.loads(text)


def _encoded(value: object) -> str:
    import json

    return json.dumps(value)
