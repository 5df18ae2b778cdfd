"""What `gateway doctor` finds: in the configuration, in the clients' files, and on the way through.

Every diagnosis says what is the case and what to do about it.
"""

import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from gateway.audit.errors import AuditUnavailable
from gateway.audit.journal import Journal
from gateway.audit.keys import Digester
from gateway.audit.records import Event, timestamp
from gateway.config.directories import audit_directory
from gateway.config.load import Loaded
from gateway.config.settings import HttpEntry, UpstreamEntry
from gateway.errors import UserError
from gateway.install.clients import CLIENTS, Servers
from gateway.install.selftest import Passage
from gateway.install.wiring import Wire, hook_argv, installed_hooks

Severity = Literal["ok", "warning", "error"]

_HOOK_TIMEOUT_S = 10
_NOT_A_TOOL_CALL = (
    b'{"hook_event_name": "SessionStart", "session_id": "gateway-doctor", "cwd": "/"}'
)


class Diagnosis(msgspec.Struct, frozen=True):
    """One thing that was looked at. `remedy` is "" where there is nothing to do."""

    area: str
    severity: Severity
    message: str
    remedy: str = ""
    path: str = ""
    line: int = 0


def of_error(area: str, error: UserError, remedy: str = "correct it") -> Diagnosis:
    """A mistake that keeps something from being looked at."""
    return Diagnosis(area, "error", error.message, remedy, error.path or "", error.line or 0)


def of_configuration(loaded: Loaded) -> Iterator[Diagnosis]:
    """The files: whether they are read, in order and accepted, and what is enforced."""
    settings = loaded.settings
    yield Diagnosis("configuration", "ok", " ".join(loaded.notes))
    if not loaded.definitions:
        yield Diagnosis(
            "agents",
            "warning",
            "no agent file is read",
            "write .claude/agents/NAME.md, or name the directory in agents_from",
        )
    for severity in ("error", "warning"):
        count = sum(finding.severity == severity for finding in loaded.findings)
        if count:
            yield Diagnosis(
                "agents",
                "warning",
                f"the files have {count} finding(s) of severity {severity}",
                "run `gateway check`, which lists them",
            )
    for finding in loaded.held:
        yield Diagnosis(
            "trust",
            "warning",
            finding.message,
            "look at it and run `gateway trust`",
            finding.path,
            finding.line,
        )
    if not loaded.held:
        yield Diagnosis("trust", "ok", "everything in the files is accepted")
    if settings.mode == "observe":
        yield Diagnosis(
            "mode",
            "warning",
            "observe: refusals are recorded, not enforced",
            "run `gateway enforce` once the audit log shows what you expect",
        )
    else:
        yield Diagnosis("mode", "ok", "enforce: what is not declared is refused")


def of_audit(loaded: Loaded) -> Diagnosis:
    """Whether the audit log takes a record, by giving it one."""
    directory = audit_directory(loaded.settings)
    try:
        journal = Journal.open(directory, durability="process")
        try:
            Digester.open(directory)
            journal.append(Event(time=timestamp(), event="doctor.checked"))
        finally:
            journal.close()
    except UserError as error:
        return of_error("audit", error)
    except AuditUnavailable as error:
        return Diagnosis("audit", "error", str(error), "free some space", str(directory))
    return Diagnosis("audit", "ok", f"the audit log takes records ({directory})")


def of_passage(passage: Passage, entry: UpstreamEntry) -> Diagnosis:
    """How one upstream fared from one end to the other."""
    if passage.problem:
        return Diagnosis(
            "upstreams",
            "error",
            f"{passage.upstream}: {passage.problem}",
            "run `gateway check --live`, which shows the last lines of its output",
            entry.path,
            entry.line,
        )
    return Diagnosis(
        "upstreams",
        "ok",
        f"{passage.upstream}: {passage.tools} tools listed, an unknown one refused and recorded",
    )


def of_wires(wires: Iterable[Wire], loaded: Loaded) -> Iterator[Diagnosis]:
    """Each server of each client: behind the gateway, or around it."""
    found = tuple(wires)
    if not any(wire.through for wire in found):
        yield Diagnosis("clients", "warning", "no client starts the gateway", "run `gateway init`")
    for wire in found:
        where = f"{CLIENTS[wire.servers.client]} server {wire.name!r}"
        if wire.through:
            yield _through(wire, where, loaded)
        else:
            yield _around(wire, where, loaded)


def of_identity(wires: Iterable[Wire], loaded: Loaded) -> Iterator[Diagnosis]:
    """How each way into the gateway tells who calls, and whether that works."""
    settings, told = loaded.settings, set[Path]()
    for wire in wires:
        if not wire.through:
            continue
        area, where = "identity", f"{CLIENTS[wire.servers.client]} server {wire.name!r}"
        path, line = str(wire.servers.path), wire.line
        if wire.agent is not None:
            known = wire.agent in loaded.snapshot.agents
            yield Diagnosis(
                area,
                "ok" if known else "error",
                f"{where}: always the agent {wire.agent!r}"
                + ("" if known else ", which no agent file defines"),
                "" if known else "name one that is defined",
                path,
                line,
            )
        elif not wire.hook:
            default = settings.default_agent
            fine = default is not None or settings.mode == "observe"
            yield Diagnosis(
                area,
                "ok" if fine else "error",
                f"{where}: " + (f"the default agent {default!r}" if default else "no agent"),
                "" if default else "add --agent NAME or --hook, or set default_agent",
                path,
                line,
            )
        elif wire.servers.settings is None:
            yield Diagnosis(
                area,
                "error",
                f"{where}: --hook, but this client has no hook that says who calls",
                "use --agent NAME instead",
                path,
                line,
            )
        elif wire.servers.settings not in told:
            told.add(wire.servers.settings)
            yield from _of_hook(wire.servers, loaded)


def _through(wire: Wire, where: str, loaded: Loaded) -> Diagnosis:
    path = str(wire.servers.path)
    if wire.config is None and wire.upstream and wire.upstream not in loaded.settings.upstreams:
        known = ", ".join(loaded.settings.upstreams) or "none"
        return Diagnosis(
            "clients",
            "error",
            f"{where} connects to {wire.upstream!r}, which is not configured (there are: {known})",
            "add it to gateway.yaml, or take the server out of the client",
            path,
            wire.line,
        )
    to = wire.upstream or "all upstreams"
    return Diagnosis("clients", "ok", f"{where} goes through the gateway to {to}", "", path)


def _around(wire: Wire, where: str, loaded: Loaded) -> Diagnosis:
    same = wire.name in loaded.settings.upstreams or any(
        wire.target == (entry.url if isinstance(entry, HttpEntry) else entry.command)
        and wire.target not in _RUNNERS
        for entry in loaded.settings.upstreams.values()
    )
    around = (
        "reaches an upstream of the gateway directly, around it"
        if same
        else ("does not go through the gateway: nothing is enforced or recorded there")
    )
    return Diagnosis(
        "clients",
        "warning",
        f"{where} {around}",
        "run `gateway init`, or remove it",
        str(wire.servers.path),
        wire.line,
    )


_RUNNERS = frozenset(("npx", "uvx", "node", "python", "python3", "docker", "bunx", "deno"))
"""Commands that start many servers, so that sharing one says nothing."""


def _of_hook(place: Servers, loaded: Loaded) -> Iterator[Diagnosis]:
    settings = place.settings
    assert settings is not None
    area = "identity"
    try:
        installed = installed_hooks(settings)
    except UserError as error:
        yield of_error(area, error)
        return
    if not installed:
        yield Diagnosis(
            area,
            "error",
            "the hook that says which agent calls is not installed, so every call is refused",
            "run `gateway init`",
            str(settings),
        )
        return
    if len(installed) > 1:
        yield Diagnosis(
            area,
            "error",
            "the hook is installed more than once, and a call that is announced twice is refused",
            "remove all but one",
            str(settings),
        )
    for command in installed:
        problem = _try_hook(command)
        yield Diagnosis(
            area,
            "error" if problem else "ok",
            f"the client's hook {problem or 'answers, and tells the agents apart'}",
            "correct the command, or run `gateway init` again" if problem else "",
            str(settings),
        )
    for key, standing in (
        ("main_thread", loaded.settings.main_thread),
        ("builtin_agents", loaded.settings.builtin_agents),
    ):
        if standing is None:
            yield Diagnosis(
                area,
                "warning",
                f"{key} is not set: calls of these are refused",
                f"set {key} in gateway.yaml to an agent, a ceiling or observe",
                loaded.settings.path,
            )


def _try_hook(command: str) -> str:
    """Why the command does not do for a hook; "" where it does."""
    try:
        argv = hook_argv(command)
        ended = subprocess.run(  # noqa: S603 - the command that the client runs before every call
            argv,
            input=_NOT_A_TOOL_CALL,
            capture_output=True,
            timeout=_HOOK_TIMEOUT_S,
            check=False,
            env=_environment(os.environ),
        )
    except (OSError, ValueError) as error:
        return f"cannot be started: {error}"
    except subprocess.TimeoutExpired:
        return f"does not answer within {_HOOK_TIMEOUT_S} s"
    if ended.returncode != 0 or ended.stdout:
        return f"fails with exit code {ended.returncode}"
    return ""


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name != "CLAUDE_PROJECT_DIR"}
