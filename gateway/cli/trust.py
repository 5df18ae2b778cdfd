"""`gateway trust`: a person accepts what a project's configuration starts and grants."""

import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import click
import msgspec

from gateway import __version__
from gateway.audit.errors import AuditUnavailable
from gateway.audit.journal import Journal
from gateway.audit.records import Event, timestamp
from gateway.cli.output import print_line
from gateway.config.directories import audit_directory
from gateway.config.load import Loaded, load
from gateway.config.plain_secrets import plain_secrets
from gateway.config.references import Where, veiled
from gateway.config.settings import HttpEntry, StdioEntry, UpstreamEntry
from gateway.config.trust import Review, accept_loaded, meaning, read_accepted, review
from gateway.errors import UserError

_AGENT_SHELLS = (
    "CLAUDECODE",
    "CODEX_SANDBOX",
    "CODEX_THREAD_ID",
    "CURSOR_AGENT",
    "GEMINI_CLI",
    "OPENCODE",
    "CLINE_ACTIVE",
    "AI_AGENT",
)
"""Variables that clients set in the shells of their agents."""


@click.command(name="trust")
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration. Default: gateway.yaml here or above, else .mcp.json.",
)
@click.option("--yes", is_flag=True, help="Accept without being asked.")
@click.option("--show", is_flag=True, help="Only show what there is to accept.")
def command(config: Path | None, yes: bool, show: bool) -> int:
    """Accept what the configuration starts and what its agents may use.

    Until a person does, no upstream of a project is started, and no change that grants an agent
    more takes effect; a change that takes something away does so at once. Shown is what would be
    new since the last time. The exit code is 2 if it was not accepted.
    """
    if not show:
        require_person(os.environ)
    loaded = load(config, cwd=Path.cwd(), trusted=True)
    accepted = read_accepted(loaded.place)
    found = review(loaded, accepted)
    print_line(loaded.notes[0])
    if accepted is not None and found.empty:
        print_line("There is nothing new to accept.")
        return 0
    for line in _described(loaded, found):
        print_line(line)
    if show:
        return 0
    if not yes:
        _ask()
    # What was shown is accepted, even if the files are no longer the same.
    _record(loaded, found)
    accept_loaded(loaded)
    print_line("Accepted.")
    return 0


def require_person(environ: Mapping[str, str], deed: str = "accepting") -> None:
    """Refuse the shell of an agent. It is no boundary: an agent can unset a variable."""
    name = agent_shell(environ)
    if name:
        raise UserError(
            f"this is the shell of an agent ({name} is set), and {deed} is for a person: "
            "run it in a terminal of your own"
        )


def agent_shell(environ: Mapping[str, str]) -> str:
    """The variable by which this is known to be the shell of an agent, "" where it is none."""
    return next((name for name in _AGENT_SHELLS if environ.get(name)), "")


def _ask() -> None:
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        raise UserError(
            "nothing was accepted: run `gateway trust` in a terminal, which asks, or give --yes"
        )
    if not click.confirm("Accept this?", default=False):
        raise UserError("nothing was accepted; what is shown above stays out of force")


def _record(loaded: Loaded, found: Review) -> None:
    """Put it into the audit log first; raises UserError where that is impossible.

    Where the log itself is to move, the former one says so too, if it can be written still.
    """
    directory = audit_directory(loaded.settings)
    event = Event(
        time=timestamp(),
        event="configuration.accepted",
        data={
            "digest": loaded.digest,
            "upstreams": len(loaded.settings.upstreams),
            "agents": len(loaded.definitions),
            "started": len(found.new) + len(found.changed),
            "gained": sum(len(change.gained) for change in found.agents),
            "lost": sum(len(change.lost) for change in found.agents),
        },
    )
    _append(directory, event)
    former = audit_directory(found.before) if found.before.root else directory
    if former != directory:
        try:
            _append(former, event)
        except UserError as error:
            print_line(f"This is not in the former audit log: {error}")


def _append(directory: Path, event: Event) -> None:
    journal = Journal.open(directory, durability="process", version=__version__)
    try:
        journal.append(event)
    except AuditUnavailable as error:
        raise UserError(f"nothing was accepted: {error}", path=str(directory)) from error
    finally:
        journal.close()


def _described(loaded: Loaded, found: Review) -> Iterator[str]:
    if found.new or found.changed or found.removed:
        yield ""
        yield "Upstreams, which are started or reached as soon as a client connects:"
        for sign, entries in (("+", found.new), ("~", found.changed)):
            for entry in entries:
                yield f"  {sign} {entry.name} ({entry.path}:{entry.line})"
                yield from (f"      {line}" for line in _launched(entry))
        yield from (f"  - {name}" for name in found.removed)
    if found.agents:
        yield ""
        yield "Agents, and what each may use:"
        for change in found.agents:
            yield f"  {change.name} ({change.file}:{change.line})"
            yield from (f"    + {item}" for item in change.gained)
            yield from (f"    - {item}" for item in change.lost)
    if found.pins:
        yield ""
        yield "Pins of tools, as they were when somebody ran `gateway pin`:"
        for pin in found.pins:
            yield f"  {pin.sign} {pin.tool or f'the instructions of {pin.upstream}'}"
    if found.rules:
        yield ""
        yield "Rules of policy files:"
        yield from (f"  {rule}" for rule in found.rules)
    if found.values:
        yield ""
        yield "Settings:"
        for key in found.values:
            before, now = meaning(found.before, key), meaning(loaded.settings, key)
            if isinstance(before, msgspec.Struct) and isinstance(now, msgspec.Struct):
                for name in now.__struct_fields__:
                    one, other = getattr(before, name), getattr(now, name)
                    if one != other:
                        yield f"  {key}.{name}: {_text(one)} -> {_text(other)}"
            else:
                yield f"  {key}: {_text(before)} -> {_text(now)}"
    yield ""


def _text(value: object) -> str:
    return "unset" if value is None else msgspec.json.encode(value).decode()


def _launched(entry: UpstreamEntry) -> Iterator[str]:
    """What an entry does, with nothing in it that may be a secret."""
    secret = set(plain_secrets(entry))
    where = Where(entry.path, entry.line, f"Upstream {entry.name}")
    if isinstance(entry, StdioEntry):
        arguments = (
            "***" if ("args", index) in secret else shlex.quote(text)
            for index, text in enumerate(entry.args)
        )
        yield " ".join((shlex.quote(entry.command), *arguments))
        if entry.cwd is not None:
            yield f"in {entry.cwd}"
        if entry.env:
            yield f"with {_named(entry.env, where)}"
        if entry.inherit_env:
            yield f"inherits {', '.join(entry.inherit_env)}"
    elif isinstance(entry, HttpEntry):
        yield _address(entry.url) if ("url",) in secret else entry.url
        if entry.headers:
            yield f"with {_named(entry.headers, where)}"
    if entry.passthrough_unknown:
        yield "passthrough_unknown: methods that the gateway does not know pass"


def _named(values: Mapping[str, str], where: Where) -> str:
    """Names, and what is looked up for them: a reference may be a command."""
    told = []
    for name, value in values.items():
        references = veiled(value, where=where)
        told.append(f"{name}={references}" if "${" in references else name)
    return ", ".join(told)


def _address(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/***"
