"""What `gateway doctor` says of what it found: what is the case, and what to do about it."""

import os
import shlex
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from gateway import __version__
from gateway.agents import Finding
from gateway.audit.errors import AuditUnavailable
from gateway.audit.journal import Journal
from gateway.audit.keys import Digester
from gateway.audit.records import Event, timestamp
from gateway.config.directories import audit_directory
from gateway.config.evidence import checkpoints_of
from gateway.config.load import Loaded
from gateway.config.settings import HttpEntry, HttpSettings, UpstreamEntry
from gateway.errors import UserError
from gateway.identity.tokens import list_tokens
from gateway.install.clients import CLIENTS
from gateway.install.program import Program
from gateway.install.selftest import Passage, try_hook
from gateway.install.wiring import Configurations, Hooks, Wire
from gateway.policy.snapshot import Standing

Severity = Literal["ok", "warning", "error"]


class Diagnosis(msgspec.Struct, frozen=True):
    """One thing that was looked at. `remedy` is "" where there is nothing to do."""

    area: str
    severity: Severity
    message: str
    remedy: str = ""
    path: str = ""
    line: int = 0


def of_error(area: str, error: UserError) -> Iterator[Diagnosis]:
    """Mistakes that keep something from being looked at."""
    for problem in getattr(error, "problems", (error,)):
        message, remedy = _split(problem.message)
        yield Diagnosis(area, "error", message, remedy, problem.path or "", problem.line or 0)


def of_findings(area: str, findings: Iterable[Finding]) -> Iterator[Diagnosis]:
    """What is wrong or doubtful in files, as it stands."""
    for finding in findings:
        if finding.severity != "info":
            message, remedy = _split(finding.message)
            yield Diagnosis(area, finding.severity, message, remedy, finding.path, finding.line)


def of_configuration(loaded: Loaded, option: str) -> Iterator[Diagnosis]:
    """The files: what they hold, whether they are accepted, and whether anything is enforced.

    `option` is what commands need so that they take this configuration, "" where they find it.
    """
    settings = loaded.settings
    notes = " ".join(loaded.notes).removeprefix("Configuration: ")
    yield Diagnosis("configuration", "ok", notes)
    if not settings.upstreams:
        remedy = "run `gateway init`, or write one under upstreams"
        yield Diagnosis("configuration", "warning", "there is no upstream", remedy, settings.path)
    standings = (settings.main_thread, settings.builtin_agents)
    if not loaded.definitions and not any(each and each.max_tools for each in standings):
        remedy = "write .claude/agents/NAME.md, or name the directory in agents_from"
        yield Diagnosis("agents", "warning", "no agent file is read", remedy)
    errors = [finding for finding in loaded.findings if finding.severity == "error"]
    yield from of_findings("agents", errors)
    warnings = sum(finding.severity == "warning" for finding in loaded.findings)
    if warnings:
        yield Diagnosis(
            "agents",
            "warning",
            f"there {'is 1 warning' if warnings == 1 else f'are {warnings} warnings'} about the "
            "configuration and the agent files",
            f"run `gateway check{option}`, which lists them",
        )
    yield from _of_trust(loaded, option)
    if settings.mode == "observe":
        yield Diagnosis(
            "mode",
            "warning",
            "observe: refusals are recorded, not enforced",
            f"run `gateway enforce{option}` once `gateway audit tail` shows what you expect",
            settings.path,
            settings.lines.get("mode", 0),
        )
    else:
        yield Diagnosis("mode", "ok", "enforce: what is not declared is refused")


def _of_trust(loaded: Loaded, option: str) -> Iterator[Diagnosis]:
    if not loaded.held:
        yield Diagnosis("trust", "ok", "everything in the files is accepted")
    for finding in loaded.held:
        yield Diagnosis(
            "trust",
            # Until anything is accepted, nothing works at all.
            "warning" if loaded.accepted else "error",
            finding.message,
            f"run `gateway trust{option}` in a terminal of your own; it shows what is to accept",
            finding.path,
            finding.line,
        )


def of_audit(loaded: Loaded) -> Iterator[Diagnosis]:
    """Whether the audit log takes a record, by giving it one."""
    directory = audit_directory(loaded.settings)
    try:
        journal = Journal.open(directory, durability="process", version=__version__)
        try:
            Digester.open(directory)
            checkpoints_of(loaded.settings, directory)
            journal.append(Event(time=timestamp(), event="doctor.checked"))
        finally:
            journal.close()
    except UserError as error:
        yield from of_error("audit", error)
    except AuditUnavailable as error:
        remedy = "free some space, or name another directory in audit.directory"
        yield Diagnosis("audit", "error", str(error), remedy, str(directory))
    else:
        yield Diagnosis("audit", "ok", "the audit log takes records", path=str(directory))


def of_store(loaded: Loaded) -> Iterator[Diagnosis]:
    """Whether the store in PostgreSQL takes what this gateway would copy."""
    settings = loaded.settings
    if settings.audit.store is None:
        return
    from gateway.audit.postgres.address import StoreUnavailable
    from gateway.audit.postgres.schema import require_writer
    from gateway.config.store import store_address

    try:
        with store_address(settings, os.environ).connect() as connection:
            require_writer(connection)
    except UserError as error:
        yield from of_error("audit", error)
    except StoreUnavailable as error:
        yield Diagnosis(
            "audit",
            "error",
            f"the audit store cannot be used: {error}",
            "see docs/postgres.md; records wait in the journal until then",
            settings.path,
            settings.lines.get("audit", 0),
        )
    else:
        yield Diagnosis("audit", "ok", "the audit store takes records", path=settings.path)


def of_passage(passage: Passage, entry: UpstreamEntry) -> Diagnosis:
    """How one upstream fared from one end to the other."""
    if not passage.problem:
        tools = "1 tool" if passage.tools == 1 else f"{passage.tools} tools"
        return Diagnosis(
            "upstreams",
            "ok",
            f"{passage.upstream}: {tools} listed, an unknown one refused and recorded",
        )
    remedy = (
        "correct its url and headers, and see that it runs"
        if isinstance(entry, HttpEntry)
        else "correct its entry; of your environment it gets harmless variables only, so name what "
        "else it needs under inherit_env"
    )
    message = f"{passage.upstream}: {passage.problem}"
    return Diagnosis("upstreams", "error", message, remedy, entry.path, entry.line)


def of_tokens(directory: Path, http: HttpSettings, *, now_s: float) -> Iterator[Diagnosis]:
    """Who may call `gateway serve`, where there are signs that it is used.

    `directory` is the store of tokens of this configuration.
    """
    area = "tokens"
    if http.anonymous is not None:
        yield Diagnosis(
            area,
            "warning",
            "http.anonymous is on: whoever can connect to the port on this host needs no token",
            "give each client a token (`gateway token create AGENT`) and remove http.anonymous",
        )
    if http.tokens is None and not directory.exists():
        return
    try:
        tokens, problems = list_tokens(directory)
    except UserError as error:
        yield from of_error(area, error)
        return
    for problem in problems:
        yield from of_error(area, problem)
    expired = sum(token.expired(now_s) for token in tokens)
    active = len(tokens) - expired
    idle = not active and http.anonymous is None
    yield Diagnosis(
        area,
        "warning" if idle else "ok",
        f"{active} active, {expired} expired" + ("; nobody can call `gateway serve`" * idle),
        "run `gateway token create AGENT`" if idle else "",
        str(directory),
    )


def of_wires(wires: Sequence[Wire], loaded: Loaded, others: Configurations) -> Iterator[Diagnosis]:
    """Each server of each client: where it leads, and how the gateway knows who calls.

    `loaded` is the configuration that is looked at; `others` has those that wires name.
    """
    if all(wire.way == "around" for wire in wires):
        yield Diagnosis("clients", "warning", "no client uses the gateway", "run `gateway init`")
    for wire in wires:
        yield from _around(wire) if wire.way == "around" else _through(wire, loaded, others)


def _around(wire: Wire) -> Iterator[Diagnosis]:
    if wire.upstream:
        message = f"reaches the upstream {wire.upstream!r} directly, around the gateway"
        remedy = "take it out of the client, or run `gateway init`"
    else:
        message = "does not go through the gateway: nothing of it is decided or recorded"
        remedy = "run `gateway init`, which also says what it cannot take over"
    yield _at(wire, "warning", message, remedy)


def _through(wire: Wire, loaded: Loaded, others: Configurations) -> Iterator[Diagnosis]:
    serving, place = loaded, ""
    if wire.way == "connect":
        try:
            serving = others.of(wire)
        except UserError as error:
            yield _at(wire, "error", f"its configuration: {error}", "correct that file, or its -c")
            return
        if serving.place != loaded.place:
            named = serving.place.config or serving.place.root
            place = f" (by {named}; `gateway doctor -c {shlex.quote(str(named))}` looks at it)"
    problem = _wrong(wire, serving)
    who = _caller(wire, serving)
    if problem is not None:
        yield _at(wire, "error", *problem)
    elif place and wire.upstream and serving.snapshot.upstreams[wire.upstream].held:
        option = f" -c {shlex.quote(str(serving.place.config))}"
        message = f"the upstream {wire.upstream!r} is not started until a person accepts it"
        yield _at(wire, "warning", message, f"run `gateway trust{option}`")
    elif who.severity != "ok":
        yield _at(wire, who.severity, who.text, who.remedy)
    else:
        to = f"to {wire.upstream!r}" if wire.upstream else "to all upstreams"
        yield _at(wire, "ok", f"goes through the gateway {to}{place}; {who.text}")


def _wrong(wire: Wire, serving: Loaded) -> tuple[str, str] | None:
    """Why the entry itself does not work, and the remedy."""
    upstreams = serving.settings.upstreams
    if wire.program and "$" not in wire.program and shutil.which(wire.program) is None:
        return (
            f"its command {wire.program!a} is not found",
            "have PATH lead to it, or write the whole path of the program",
        )
    if bool(wire.upstream) == wire.everything:
        return "it must name one upstream, or --all", "write `connect NAME` or `connect --all`"
    if wire.hook and wire.agent is not None:
        return "it has both --agent and --hook", "remove the one that is not meant"
    if wire.upstream and wire.upstream not in upstreams:
        known = ", ".join(upstreams) or "none"
        return (
            f"connects to {wire.upstream!r}, which is not configured (there are: {known})",
            "add it under upstreams, or take the server out of the client",
        )
    return None


class _Caller(msgspec.Struct, frozen=True):
    """Who calls on a wire, and what is wrong with that."""

    text: str
    severity: Severity = "ok"
    remedy: str = ""


def _caller(wire: Wire, serving: Loaded) -> _Caller:
    http = serving.settings.http
    if wire.bearer:
        return _Caller("its token says which agent calls")
    if wire.way == "serve" and http.anonymous is None:
        return _Caller(
            "it has no token, and without one every request is refused",
            "error",
            "run `gateway token create AGENT` and send it as the header Authorization: Bearer",
        )
    if wire.way == "serve" and wire.agent is None:
        return _Caller("without a token, every call is the agent's that `gateway serve` was given")
    if wire.agent is not None:
        return _named(wire.agent, f"every call is the agent's {wire.agent!r}", serving)
    if wire.hook and wire.servers.settings is None:
        return _Caller(
            "it has --hook, but this client has no hook that says who calls",
            "error",
            "write --agent NAME instead",
        )
    if wire.hook:
        return _Caller("the client's hook says which agent calls")
    default = serving.settings.default_agent
    if default is not None:
        return _named(default, f"every call is the default agent's {default!r}", serving)
    option = "--agent NAME" if wire.servers.settings is None else "--hook"
    return _Caller(
        "nothing says which agent calls, so every call is refused"
        + (" once that is enforced" * serving.snapshot.observe),
        "warning" if serving.snapshot.observe else "error",
        "run `gateway trust`: default_agent does not hold until it is accepted"
        if _is_held("default_agent", serving)
        else f"add {option} to its args, or set default_agent in gateway.yaml",
    )


def _named(agent: str, text: str, serving: Loaded) -> _Caller:
    severity: Severity = "warning" if serving.snapshot.observe else "error"
    permissions = serving.snapshot.agents.get(agent)
    if permissions is None:
        known = ", ".join(serving.snapshot.agents) or "none"
        return _Caller(f"{text}, whom no agent file defines", severity, f"name one of: {known}")
    if permissions.refusal is not None:
        refusal = permissions.refusal
        where = f" ({refusal.file}:{refusal.line})" if refusal.file else ""
        message, remedy = _split(refusal.text)
        return _Caller(f"{text}, who may use nothing: {message}{where}", severity, remedy)
    return _Caller(text)


def of_hooks(
    found: Hooks, wires: Iterable[Wire], loaded: Loaded, root: Path, program: Program
) -> Iterator[Diagnosis]:
    """The hook of Claude Code: whether it is there, once, and answers for the project `root`."""
    area = "hook"
    needed = any(wire.hook and wire.servers.settings is not None for wire in wires)
    # One command in several files the client runs once.
    commands = {hook.command: str(hook.path) for hook in reversed(found.installed)}
    if not commands:
        if needed:
            what = "is refused once that is enforced" if loaded.snapshot.observe else "is refused"
            message = f"the client's hook is not installed, so no call has an agent and each {what}"
            yield Diagnosis(area, "error", message, "run `gateway init`")
        return
    if found.off is not None:
        message = "the client runs no hooks, so no call has an agent"
        yield Diagnosis(area, "error", message, "remove disableAllHooks", str(found.off))
    if len(commands) > 1:
        every = ", ".join(f"`{command}` ({path})" for command, path in commands.items())
        yield Diagnosis(
            area,
            "error",
            f"several commands announce each call, and one announced twice is refused: {every}",
            f"keep `{program.hook()}` and remove the others",
        )
    for command, path in commands.items():
        tried = try_hook(command, root, program)
        if not tried.problem:
            message = f"`{command}` answers, and refuses to have gateway.yaml written"
            yield Diagnosis(area, "ok", message, path=path)
            continue
        yield Diagnosis(
            area,
            "error" if tried.started else "warning",
            f"`{command}` {tried.problem}",
            f"write `{program.hook()}`" + ("" if tried.started else ", if that is what is meant"),
            path,
        )
    for hook in found.installed:
        if not hook.sees_every_tool:
            message = f"`{hook.command}` is run only before tools that match {hook.matcher!r}"
            yield Diagnosis(area, "warning", message, 'write "matcher": "*"', str(hook.path))
    yield from _of_standings(loaded)


def _of_standings(loaded: Loaded) -> Iterator[Diagnosis]:
    """What holds for callers that have no agent file."""
    settings = loaded.settings
    for key, whom, standing in (
        ("main_thread", "the session itself", settings.main_thread),
        ("builtin_agents", "the client's built-in agents", settings.builtin_agents),
    ):
        if standing is not None:
            yield Diagnosis("identity", "ok", f"{whom}: {_standing(standing)} ({key})")
        elif not _is_held(key, loaded):
            yield Diagnosis(
                "identity",
                "warning",
                f"{key} is not set, so calls of {whom} are refused"
                + (" once that is enforced" * loaded.snapshot.observe),
                f"set {key} in gateway.yaml: the name of an agent, a list of tools, or observe",
                settings.path,
            )


def _standing(standing: Standing) -> str:
    if standing.observe:
        return "everything passes and is recorded"
    if standing.max_tools is not None:
        return f"at most {', '.join(pattern.text for pattern in standing.max_tools) or 'nothing'}"
    return f"the list of the agent {standing.agent!r}"


def _is_held(key: str, loaded: Loaded) -> bool:
    """Whether a key of gateway.yaml has no value only because nobody accepted that."""
    place = (loaded.settings.path, loaded.settings.lines.get(key))
    held = {(finding.path, finding.line) for finding in loaded.held}
    return key in loaded.settings.lines and (not loaded.accepted or place in held)


def _at(wire: Wire, severity: Severity, message: str, remedy: str = "") -> Diagnosis:
    message = f"{CLIENTS[wire.servers.client]}, {wire.name}: {message}"
    return Diagnosis("clients", severity, message, remedy, str(wire.servers.path), wire.line)


def _split(sentence: str) -> tuple[str, str]:
    """What is the case, and the remedy: messages have both, in this order."""
    message, _, remedy = sentence.partition("; ")
    return message, remedy.rstrip(".") or "correct it there"
