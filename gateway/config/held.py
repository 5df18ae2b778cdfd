"""What of a configuration is in force: what the files say now and a person accepted (pure).

A narrowing takes effect at once. What would widen anything, or start a program, is held back.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, get_args

import msgspec

from gateway.agents import AgentDefinition, Finding
from gateway.catalog.pins import Pins, is_looser, same_pins
from gateway.config.accepted import Accepted
from gateway.config.settings import (
    ConsoleSettings,
    HttpSettings,
    MetricsReaders,
    Mode,
    Settings,
    TelemetrySettings,
)
from gateway.policy.approval import Terms
from gateway.policy.compile import Rules, compile_snapshot
from gateway.policy.results import ResultRule, ResultRules
from gateway.policy.results import with_former as former_results
from gateway.policy.rules import Rule, RuleSet, with_former
from gateway.policy.snapshot import AgentPermissions, Govern, Snapshot, Standing, UpstreamTraits

if TYPE_CHECKING:
    from gateway.config.changes import AgentChange

NOTHING = Settings(root="", path="", digest="")
"""What holds of a configuration that nobody has accepted: the defaults."""

ACCEPTED_VALUES = (
    *("default_agent", "approvals", "audit", "http", "console", "limits", "mode"),
    *("native_tools", "telemetry"),
)
STANDINGS = ("main_thread", "builtin_agents")
"""Keys of gateway.yaml: those with one value, and those about callers without an agent file."""
_NATIVE_TOOLS: tuple[Govern, ...] = ("off", "observe", "enforce")
_READERS: tuple[MetricsReaders, ...] = get_args(MetricsReaders)
_NAMED = 5


class Held(msgspec.Struct, frozen=True):
    """A configuration in force, and a finding for everything that is held back.

    `settings.upstreams` still has the entries that are held: the snapshot's traits tell which.
    """

    settings: Settings
    snapshot: Snapshot
    findings: tuple[Finding, ...]


def as_they_are(settings: Settings, definitions: Sequence[AgentDefinition]) -> Snapshot:
    """The snapshot of a configuration that is taken as it stands."""
    traits = {
        name: UpstreamTraits(passthrough_unknown=entry.passthrough_unknown)
        for name, entry in settings.upstreams.items()
    }
    snapshot = _compile(settings, definitions, traits, settings.digest)
    return msgspec.structs.replace(
        snapshot, pins=settings.pins, results=ResultRules(settings.results)
    )


def held_back(
    settings: Settings, definitions: Sequence[AgentDefinition], accepted: Accepted | None
) -> Held:
    """What the files say, as far as `accepted` covers it; None is that nothing was accepted."""
    effective = _effective(settings, NOTHING if accepted is None else accepted.settings)
    traits = {}
    for name, entry in settings.upstreams.items():
        held = ""
        if accepted is None or not accepted.covers(entry):
            held = (
                f"the upstream {name!r} of this project is not started until a person accepts its "
                f"entry ({entry.path}:{entry.line}) with `gateway trust`"
            )
        traits[name] = UpstreamTraits(entry.passthrough_unknown, held)
    digest = settings.digest
    agents = {} if accepted is None else accepted_agents(accepted, effective)
    pinned = None if accepted is None else accepted.settings.pins
    snapshot = msgspec.structs.replace(
        _compile(effective, definitions, traits, digest),
        pins=settings.pins,
        results=ResultRules(settings.results),
        accepted_pins=None if same_pins(pinned, settings.pins) else pinned,
    )
    as_accepted = (
        accepted is not None
        and accepted.settings.digest == digest
        and snapshot.agents == agents
        and effective == settings
        and not any(trait.held for trait in traits.values())
    )
    if as_accepted:
        return Held(effective, snapshot, ())
    before = "" if accepted is None else accepted.settings.digest
    wanted = snapshot.agents
    snapshot = msgspec.structs.replace(
        snapshot,
        agents={name: _observed_by_both(each, agents.get(name)) for name, each in wanted.items()},
        accepted=None if snapshot.agents == agents else agents,
        digest=hashlib.sha256(f"{digest} {before}".encode()).hexdigest(),
        rules=RuleSet(
            with_former(settings.policies, () if accepted is None else accepted.settings.policies)
        ),
        results=ResultRules(
            former_results(settings.results, () if accepted is None else accepted.settings.results)
        ),
    )
    findings = (
        [_nothing_accepted(settings, definitions)]
        if accepted is None
        else [
            *_held_upstreams(settings, traits),
            *_held_agents(_compared(agents, wanted)),
            *_held_pins(settings.pins, snapshot.accepted_pins),
            *_held_rules(snapshot.rules.rules),
            *_held_rules(snapshot.results.rules),
            *_held_values(settings, effective),
        ]
    )
    return Held(effective, snapshot, tuple(findings))


def accepted_agents(
    accepted: Accepted, effective: Settings = NOTHING
) -> Mapping[str, AgentPermissions]:
    """The agents as they were accepted, over the upstreams that there were then.

    `effective` has what stands for callers without a file now. Where `observe` was accepted for
    them, which lets everything pass, that is within it.
    """
    settings = accepted.settings
    standings = {}
    for key in STANDINGS:
        before: Standing | None = getattr(settings, key)
        now: Standing | None = getattr(effective, key)
        standings[key] = now if before is not None and before.observe and now else before
    settings = msgspec.structs.replace(settings, **standings)
    traits = dict.fromkeys(accepted.upstreams, UpstreamTraits())
    return _compile(settings, accepted.definitions, traits, "").agents


def _compile(
    settings: Settings,
    definitions: Sequence[AgentDefinition],
    traits: Mapping[str, UpstreamTraits],
    digest: str,
) -> Snapshot:
    return compile_snapshot(
        Rules(
            definitions,
            settings.agents,
            settings.main_thread,
            settings.builtin_agents,
            settings.policies,
        ),
        traits,
        digest,
        observe=settings.mode == "observe",
        native_tools=settings.native_tools,
        default_agent=settings.default_agent,
        approvals=settings.approvals,
    )


def _effective(now: Settings, before: Settings) -> Settings:
    """The settings in force; `agents` is as it is now, and decided by both forms."""
    mode: Mode = "observe" if now.mode == before.mode == "observe" else "enforce"
    return msgspec.structs.replace(
        now,
        # Without a default agent more is refused.
        default_agent=before.default_agent if now.default_agent is not None else None,
        main_thread=_standing(now.main_thread, before.main_thread),
        builtin_agents=_standing(now.builtin_agents, before.builtin_agents),
        mode=mode,
        native_tools=max(now.native_tools, before.native_tools, key=_NATIVE_TOOLS.index),
        audit=before.audit,
        http=_http(now.http, before.http),
        console=_console(now.console, before.console),
        limits=before.limits,
        approvals=_approvals(now.approvals, before.approvals),
        telemetry=_telemetry(now.telemetry, before.telemetry),
    )


def _telemetry(now: TelemetrySettings, before: TelemetrySettings) -> TelemetrySettings:
    """As it was accepted, but for what the file leaves out: that is not sent any more."""
    return msgspec.structs.replace(
        before,
        traces=now.traces and before.traces,
        metrics=now.metrics and before.metrics,
        arguments=now.arguments and before.arguments,
        results=now.results and before.results,
    )


def _observed_by_both(now: AgentPermissions, before: AgentPermissions | None) -> AgentPermissions:
    """An agent as it is now; that it is observed only counts where a person accepted that."""
    if not now.observed or (before is not None and before.observed):
        return now
    return msgspec.structs.replace(now, observed=False)


def _http(now: HttpSettings, before: HttpSettings) -> HttpSettings:
    """As it was accepted, but for callers without a token: whom the file lets out is out."""
    return msgspec.structs.replace(
        before,
        anonymous=before.anonymous if now.anonymous is not None else None,
        metrics=min(now.metrics, before.metrics, key=_READERS.index),
    )


def _approvals(now: Terms, before: Terms) -> Terms:
    """What both of them say: the same ways, no longer, and remembered for no longer."""
    return Terms(
        by=tuple(way for way in now.by if way in before.by),
        timeout_s=min(now.timeout_s, before.timeout_s),
        remember=tuple(each for each in now.remember if each in before.remember),
        max_held=min(now.max_held, before.max_held),
    )


def _console(now: ConsoleSettings, before: ConsoleSettings) -> ConsoleSettings:
    """As it was accepted, but that it can be closed at once."""
    return before if now.enabled is not False else msgspec.structs.replace(before, enabled=False)


def _standing(now: Standing | None, before: Standing | None) -> Standing | None:
    """What stands for callers without an agent file."""
    if now is None or (before is not None and before.observe):
        return now
    if now.agent is not None or now.observe:
        return now if before is not None and _same(now, before) else before
    # A ceiling is decided by both of its forms, like any agent.
    return now if before is None or before.agent is None else before


def _same(now: Standing, before: Standing) -> bool:
    return (now.agent, now.observe) == (before.agent, before.observe)


def _nothing_accepted(settings: Settings, definitions: Sequence[AgentDefinition]) -> Finding:
    places = [(settings.path, 1)] if settings.path else []
    places += [(entry.path, entry.line) for entry in settings.upstreams.values()]
    places += [(definition.path, 1) for definition in definitions]
    path, line = places[0] if places else ("", 0)
    return Finding(
        "not-accepted",
        "warning",
        "Nobody has accepted this configuration yet: no upstream of it is started, and no agent "
        "may use anything, until a person does so with `gateway trust`.",
        path,
        line,
    )


def _held_upstreams(settings: Settings, traits: Mapping[str, UpstreamTraits]) -> Iterator[Finding]:
    for name, entry in settings.upstreams.items():
        if traits[name].held:
            yield Finding(
                "not-accepted",
                "warning",
                f"The upstream {name!r} is not started until a person accepts this entry with "
                "`gateway trust`.",
                entry.path,
                entry.line,
            )


def _compared(
    before: Mapping[str, AgentPermissions], now: Mapping[str, AgentPermissions]
) -> "Sequence[AgentChange]":
    from gateway.config.changes import compare_agents  # mostly nothing is held, and the hook waits

    return compare_agents(before, now)


def _held_agents(changes: "Sequence[AgentChange]") -> Iterator[Finding]:
    for change in changes:
        if change.gained:
            named = ", ".join(change.gained[:_NAMED])
            more = len(change.gained) - _NAMED
            yield Finding(
                "not-accepted",
                "warning",
                f"The agent {change.name!r} may not use {named}"
                + (f" and {more} more" if more > 0 else "")
                + " until a person accepts that with `gateway trust`.",
                change.file,
                change.line,
            )


def _held_pins(now: Pins | None, accepted: Pins | None) -> Iterator[Finding]:
    """Accepted pins that are gone, or others now."""
    if accepted is not None and is_looser(now, accepted):
        yield Finding(
            "not-accepted",
            "warning",
            f"What {accepted.path} said when it was last accepted withholds tools still, until a "
            "person accepts what it says now with `gateway trust`.",
            accepted.path,
            1,
        )


def _held_rules(rules: Iterable[Rule | ResultRule]) -> Iterator[Finding]:
    for rule in rules:
        if rule.former:
            yield Finding(
                "not-accepted",
                "warning",
                f"The rule {rule.name!r} still holds as it was accepted, until a person accepts "
                "that it changed or is gone with `gateway trust`.",
                rule.file,
                rule.line,
            )


def _held_values(settings: Settings, effective: Settings) -> Iterator[Finding]:
    for key in (*STANDINGS, *ACCEPTED_VALUES):
        if getattr(settings, key) != getattr(effective, key):
            yield Finding(
                "not-accepted",
                "warning",
                f"{key} stays as it was accepted until a person accepts the change with "
                "`gateway trust`.",
                settings.path,
                settings.lines.get(key, 1),
            )
