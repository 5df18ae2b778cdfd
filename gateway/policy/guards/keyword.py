"""Guards as custom keywords of jsonschema-rs, and the verdicts of those that are slow.

A slow guard is not run where the schema is judged. A first pass over the schema (`collect`) says
which are to be asked about what; the answers are given to the second pass (`judge`).
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

import msgspec

from gateway.policy.guards import build
from gateway.policy.guards.base import Guard

_MISSING = "The argument could not be examined."
_T = TypeVar("_T")


class Job(NamedTuple):
    """What a guard is asked: its name, its options as JSON, and the value as JSON."""

    guard: str
    options: str
    value: bytes


class Verdicts:
    """What the keywords of one schema share while it is judged. Not for two threads at once.

    `failed` after a pass: some guard could not answer. That must refuse the call whatever the
    schema says, because under a `not` a keyword that fails makes the whole pass.
    """

    def __init__(self) -> None:
        self.failed = False
        self._collected: dict[Job, None] | None = None
        self._known: Mapping[Job, str | None] = {}

    def collect(self, run: Callable[[], object]) -> tuple[Job, ...]:
        """The jobs of slow guards that `run`, a pass over the schema, comes upon.

        `run` should look at all of the schema (`evaluate`), not stop at the first error.
        """
        self.failed = False
        self._collected = {}
        try:
            run()
            return tuple(self._collected)
        finally:
            self._collected = None

    def judge(self, known: Mapping[Job, str | None], run: Callable[[], _T]) -> _T:
        """What `run` comes to with these answers. A job that has none fails."""
        self.failed = False
        self._known = known
        try:
            return run()
        finally:
            self._known = {}

    def answer(self, guard: Guard, name: str, options: str, value: object) -> str | None:
        """The answer to one keyword in the pass that is under way."""
        try:
            if not guard.slow:
                return guard.check(value)
            job = Job(name, options, msgspec.json.encode(value))
            if self._collected is not None:
                self._collected[job] = None
                return None
            if job in self._known:
                return self._known[job]
        except Exception:  # noqa: BLE001, S110 - whatever a guard raises, it has not said yes
            pass
        self.failed = True
        return _MISSING


def keyword(name: str, verdicts: Verdicts) -> type:
    """The class that jsonschema-rs makes keywords of that name from.

    Building a validator with it raises what `guards.build` raises, or an error of jsonschema-rs
    with the same text: check the options with `guards.build` first, where their place is known.
    """

    class Keyword:
        def __init__(self, parent_schema: object, value: object, schema_path: object) -> None:
            self._guard = build(name, value)
            self._options = msgspec.json.encode(value).decode()

        def validate(self, instance: object) -> None:
            problem = verdicts.answer(self._guard, name, self._options, instance)
            if problem is not None:
                raise ValueError(problem)

    return Keyword
