"""The smallest change of a call's arguments with which no rule refuses it (pure).

Only what follows from a rule itself is tried: to leave an argument out, to take the value that is
allowed. What a guard would take is nobody's guess.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.policy.arguments import matcher, path_in_words, shown
from gateway.policy.judge import Facts, refusal_by
from gateway.policy.rules import Rule, RuleSet
from gateway.policy.taken import constraints_of

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError

_ROUNDS = 8
Where = tuple[str | int, ...]


class Edit(msgspec.Struct, frozen=True):
    """One change of the arguments; `value` is what to give, or it is to be left out."""

    where: Where
    leave_out: bool
    value: object = None

    @property
    def text(self) -> str:
        name = path_in_words(self.where)
        return f"leave out {name}" if self.leave_out else f"give {name} as {shown(self.value)}"


class Remedy(msgspec.Struct, frozen=True):
    """Edits with which a call passes all enforced rules about arguments but those in `stuck`."""

    edits: tuple[Edit, ...] = ()
    stuck: frozenset[str] = frozenset()


def remedy(applying: Sequence[Rule], facts: Facts, rules: RuleSet, wanted: str) -> Remedy:
    """The edits that are needed, as far as they can be found."""
    if facts.arguments is None:
        return Remedy()
    arguments: dict[str, Any] = copy.deepcopy(dict(facts.arguments))
    judged = [rule for rule in applying if rule.arguments is not None and not rule.observe]
    edits: dict[Where, Edit] = {}
    stuck: set[str] = set()
    for _ in range(_ROUNDS):
        now = msgspec.structs.replace(facts, arguments=arguments)
        refusing = next(
            (
                rule
                for rule in judged
                if rule.name not in stuck and refusal_by(rule, now, rules, wanted) is not None
            ),
            None,
        )
        if refusing is None:
            return Remedy(tuple(edits.values()), frozenset(stuck))
        made = tuple(_edits(refusing, now, rules, wanted))
        if not made or any(edit.where in edits for edit in made):
            stuck.add(refusing.name)
            continue
        try:
            for edit in made:
                _apply(arguments, edit)
        except (LookupError, TypeError):
            break  # what one of them changes, another one has taken away
        edits.update({edit.where: edit for edit in made})
    return Remedy((), frozenset(rule.name for rule in judged))


def _edits(rule: Rule, facts: Facts, rules: RuleSet, wanted: str) -> Iterator[Edit]:
    assert rule.arguments is not None
    assert facts.arguments is not None
    if rule.effect == "allow-only-if":
        errors = matcher(rule.arguments, rules).errors(facts.arguments, facts.answers)
        found = [tuple(_mending(error)) for error in errors]
        if all(found):
            yield from (edit for edits in found for edit in edits)
        return
    # What is denied is denied for what the rule speaks of: without one of those it is not.
    for constraint in constraints_of(rule.arguments):
        name = constraint.steps[0]
        if name is None or name not in facts.arguments:
            continue
        value = facts.arguments[name]
        flipped = (Edit((name,), False, not value),) if isinstance(value, bool) else ()
        for edit in (*flipped, Edit((name,), True)):
            changed: dict[str, Any] = copy.deepcopy(dict(facts.arguments))
            _apply(changed, edit)
            other = msgspec.structs.replace(facts, arguments=changed)
            if refusal_by(rule, other, rules, wanted) is None:
                yield edit
                return


def _mending(error: "ValidationError") -> Iterator[Edit]:
    where = tuple(error.instance_path)
    kind = error.kind
    name = kind.name
    if name in ("additionalProperties", "unevaluatedProperties"):
        yield from (Edit((*where, each), True) for each in getattr(kind, "unexpected", ()))
    elif name == "falseSchema" and where:
        yield Edit(where, True)
    elif name in ("minimum", "maximum", "const"):
        yield Edit(where, False, kind.value)
    elif name == "enum" and kind.value:
        yield Edit(where, False, kind.value[0])
    elif name in _NEXT and isinstance(kind.value, int):
        yield Edit(where, False, _NEXT[name](kind.value))


_NEXT: Mapping[str, Callable[[int], int]] = {
    "exclusiveMinimum": lambda bound: bound + 1,
    "exclusiveMaximum": lambda bound: bound - 1,
}


def _apply(arguments: dict[str, Any], edit: Edit) -> None:
    holder: Any = arguments
    for step in edit.where[:-1]:
        holder = holder[step]
    if edit.leave_out:
        del holder[edit.where[-1]]
    else:
        holder[edit.where[-1]] = edit.value
