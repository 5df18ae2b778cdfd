"""What a guard is, and how its options are read."""

from typing import ClassVar, TypeVar

import msgspec


class OptionsError(Exception):
    """Options that a guard cannot be built from. `key` is the dotted key, "" for the whole."""

    def __init__(self, key: str, problem: str) -> None:
        self.key = key
        self.problem = problem
        super().__init__(f"{key}: {problem}" if key else problem)


class Guard:
    """One keyword of an argument schema with the options written there.

    `slow`: `check` may take longer than an event loop can wait; it is then called in a process of
    its own (`gateway.relay.guarding`), and only `glance` where the loop runs. A guard is pure: the
    same value always gets the same answer.
    """

    slow: ClassVar[bool] = False

    def __init__(self, options: object) -> None:
        """Raises OptionsError."""
        raise NotImplementedError

    def check(self, value: object) -> str | None:
        """None where the value will do, else one sentence for the model saying why not.

        The sentence repeats names at most, never a literal of the value: it may be a secret.
        """
        raise NotImplementedError

    def glance(self, value: object) -> str | None:
        """What can be refused in well under a millisecond per kilobyte, before `check`."""
        return None

    def prepare(self) -> None:
        """What takes long once, like imports; `check` counts on nothing having called it."""


_Options = TypeVar("_Options", bound=msgspec.Struct)


def read_options(options: object, kind: type[_Options]) -> _Options:
    """The options as `kind`, a frozen Struct that forbids unknown fields. Raises OptionsError."""
    if not isinstance(options, dict):
        raise OptionsError("", "the options must be a mapping")
    try:
        return msgspec.convert(options, kind)
    except msgspec.ValidationError as error:
        raise _named(str(error)) from None


def _named(message: str) -> OptionsError:
    """From "Expected `int`, got `str` - at `$.ports[...]`" to the key and the problem."""
    problem, _, where = message.partition(" - at `$")
    key = where.rstrip("`").lstrip(".")
    if problem.startswith("Object contains unknown field `"):
        unknown = problem.split("`")[1]
        return OptionsError(f"{key}.{unknown}".lstrip("."), "there is no such option")
    if problem.startswith("Object missing required field `"):
        missing = problem.split("`")[1]
        return OptionsError(f"{key}.{missing}".lstrip("."), "this option is required")
    return OptionsError(key, problem[:1].lower() + problem[1:])
