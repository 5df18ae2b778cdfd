"""Trust: a project's commands start, and its agents gain, only what a person accepted.

What was accepted is kept outside the project, in `<state>/trust/`.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from gateway.catalog.pins import PinChange, compare_pins, rules_of
from gateway.config.accepted import Accepted, acceptance_of, read_accepted, write_accepted
from gateway.config.changes import AgentChange, compare_agents
from gateway.config.held import ACCEPTED_VALUES, NOTHING, STANDINGS, accepted_agents, held_back
from gateway.config.load import Loaded, load
from gateway.config.settings import Settings, UpstreamEntry
from gateway.policy.results import ResultRule, in_words
from gateway.policy.rules import Rule

__all__ = ["Review", "accept", "accept_loaded", "held_back", "read_accepted", "review"]


class Review(msgspec.Struct, frozen=True):
    """What a configuration has that was not accepted, and what is gone since.

    `values` are the keys of gateway.yaml that differ from `before`, `pins` what of the lock does.
    `rules` are those of policy files that are new (`+`) or no longer there as they were (`-`).
    """

    new: tuple[UpstreamEntry, ...]
    changed: tuple[UpstreamEntry, ...]
    removed: tuple[str, ...]
    agents: tuple[AgentChange, ...]
    values: tuple[str, ...]
    before: Settings
    pins: tuple[PinChange, ...] = ()
    rules: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to accept."""
        return not (
            *self.new,
            *self.changed,
            *self.removed,
            *self.agents,
            *self.values,
            *self.pins,
            *self.rules,
        )


def accept(path: Path | None, *, cwd: Path) -> None:
    """Accept the configuration as its files are now; arguments and errors as those of `load`."""
    accept_loaded(load(path, cwd=cwd, trusted=True))


def accept_loaded(loaded: Loaded) -> None:
    """Accept a configuration that was loaded as trusted, whatever its files say by now."""
    accepted = acceptance_of(loaded.settings, loaded.definitions)
    write_accepted(loaded.place, accepted)


def review(loaded: Loaded, accepted: Accepted | None) -> Review:
    """What accepting `loaded`, which was loaded as trusted, would change."""
    settings = loaded.settings
    before = NOTHING if accepted is None else accepted.settings
    known = {} if accepted is None else accepted.upstreams
    agents = {} if accepted is None else accepted_agents(accepted)
    differing = [
        entry
        for entry in settings.upstreams.values()
        if accepted is None or not accepted.covers(entry)
    ]
    return Review(
        new=tuple(entry for entry in differing if entry.name not in known),
        changed=tuple(entry for entry in differing if entry.name in known),
        removed=tuple(name for name in known if name not in settings.upstreams),
        agents=compare_agents(agents, loaded.snapshot.agents),
        values=tuple(
            key
            for key in (*STANDINGS, *ACCEPTED_VALUES, "pins")
            if meaning(settings, key) != meaning(before, key)
        ),
        before=before,
        pins=compare_pins(before.pins, settings.pins),
        rules=(
            *_told("-", before.policies, settings.policies),
            *_told("+", settings.policies, before.policies),
            *_results_told("-", before.results, settings.results),
            *_results_told("+", settings.results, before.results),
        ),
    )


def _told(sign: str, rules: Iterable[Rule], others: Iterable[Rule]) -> Iterator[str]:
    known = {rule.meaning for rule in others}
    for rule in rules:
        if rule.meaning not in known:
            observed = ", observed" if rule.observe else ""
            tools = ", ".join(rule.tools)
            yield f"{sign} {rule.name}: {rule.effect}{observed} {tools} ({rule.file}:{rule.line})"


def _results_told(
    sign: str, rules: Iterable[ResultRule], others: Iterable[ResultRule]
) -> Iterator[str]:
    known = {rule.meaning for rule in others}
    for rule in rules:
        if rule.meaning not in known:
            observed = ", observed" if rule.observe else ""
            tools = ", ".join(rule.tools)
            does = in_words(rule)
            yield f"{sign} {rule.name}: {does}{observed} {tools} ({rule.file}:{rule.line})"


def meaning(settings: Settings, key: str) -> object:
    """What a key of gateway.yaml says, wherever it stands; of pins, what follows from a change."""
    if key == "pins":
        text, wildcards = rules_of(settings.pins)
        return {"text": text, "wildcards": wildcards}
    value = getattr(settings, key)
    if key not in STANDINGS or value is None:
        return value
    if value.max_tools is not None:
        return [pattern.text for pattern in value.max_tools]
    return "observe" if value.observe else value.agent
