"""`gateway check`: everything that is worth attention, before a client finds out."""

import os
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from gateway.cli.asking import ask_upstreams
from gateway.cli.audit_options import configured_source, opened_log
from gateway.cli.definitions import of_definitions
from gateway.cli.notes import (
    Note,
    Reach,
    of_files,
    of_references,
    of_refusals,
    of_survey,
    reaches_of,
)
from gateway.cli.output import print_json_line, print_line, print_table
from gateway.cli.rule_notes import of_rules
from gateway.cli.sarif import sarif, sarif_of_error
from gateway.cli.secret_notes import of_texts_with_secrets
from gateway.cli.width import of_inheriting, of_unused, of_wildcards
from gateway.config.load import Loaded, load
from gateway.errors import UserError
from gateway.install.wiring import clients_root, read_wires
from gateway.policy.snapshot import AgentPermissions

EXIT_FINDINGS = 1
EXIT_CANNOT_RUN = 2
_CANNOT_RUN = frozenset(("unresolved-reference", "upstream-failed"))
"""Findings that say that something configured does not work at all."""


@click.command(name="check")
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration. Default: gateway.yaml here or above, else .mcp.json.",
)
@click.option("--live", is_flag=True, help="Also start every upstream and ask what it offers.")
@click.option("--agent", metavar="NAME", help="Only this agent. Default: all of them.")
@click.option(
    "--unused-days",
    metavar="N",
    type=click.IntRange(min=1, max=36_500),
    help="Also tell which declared tools the audit log has no call for in the last N days.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "sarif"]),
    default="text",
    show_default=True,
    help="A report, one JSON object a line, or SARIF 2.1.0 for code scanning.",
)
def command(
    config: Path | None,
    live: bool,
    agent: str | None,
    unused_days: int | None,
    as_json: bool,
    form: str,
) -> int:
    """Check the configuration, the agent files and what the upstreams offer.

    Reads every file, resolves every reference, and with --live asks every upstream for its tools:
    which declared ones are gone, and what most likely took their place. Also tells where a client
    reaches an upstream around the gateway. The exit code is 1 if there is a warning or an error, 2
    if the configuration cannot be used, a variable has no value or an upstream does not start.
    """
    try:
        loaded = load(config, cwd=Path.cwd(), trusted=False)
    except UserError as error:
        if form == "sarif":
            print_json_line(sarif_of_error(error, root=str(Path.cwd()), version=_version()))
        raise
    agents = _chosen(loaded, agent)
    unresolved = of_references(loaded)
    notes = [*of_files(loaded, agent), *of_refusals(loaded, agent), *unresolved, *_around(loaded)]
    unusable = {note.upstream for note in unresolved}
    usable = [
        name
        for name, traits in loaded.snapshot.upstreams.items()
        if name not in unusable and not traits.held
    ]
    surveyed = ask_upstreams(loaded.settings, usable if live else ())
    notes += [
        *of_survey(loaded, agents, surveyed),
        *of_definitions(loaded, agents, surveyed),
        *of_inheriting(loaded, agents),
        *of_wildcards(agents, surveyed),
        *of_rules(loaded, surveyed, agent),
        *of_texts_with_secrets(loaded),
    ]
    if unused_days is not None:
        source = configured_source(loaded)
        missing = source.directory is not None and not source.directory.is_dir()
        with nullcontext() if missing else opened_log(source) as log:
            notes += of_unused(agents, log, days=unused_days, now=datetime.now(UTC))
    reaches = [reach for one in agents for reach in reaches_of(one, loaded.snapshot, surveyed)]
    if form == "sarif":
        print_json_line(sarif(notes, root=loaded.settings.root, version=_version()))
    elif as_json or form == "json":
        _print_json(notes, reaches)
    else:
        _print_report(loaded, notes, reaches, live=live)
    if any(note.code in _CANNOT_RUN for note in notes):
        return EXIT_CANNOT_RUN
    return EXIT_FINDINGS if any(note.severity != "info" for note in notes) else 0


def _version() -> str:
    # Imported here: it costs more than the rest, and is wanted in one form only.
    from importlib.metadata import version

    return version("mcp-tool-gateway")


def _chosen(loaded: Loaded, name: str | None) -> list[AgentPermissions]:
    agents = loaded.snapshot.agents
    if name is None:
        return list(agents.values())
    if name not in agents:
        raise UserError(
            f"there is no agent {name!r} in the agent files that are read; the defined ones are: "
            f"{', '.join(agents) or 'none'}",
            path=loaded.settings.path or None,
        )
    return [agents[name]]


def _around(loaded: Loaded) -> Iterator[Note]:
    """Servers by which a client reaches an upstream directly, where nothing here holds."""
    home = Path.home()
    root = clients_root(loaded, Path.cwd(), home, os.environ)
    # What cannot be read, `gateway doctor` tells.
    for wire in read_wires(loaded.settings, root, home, os.environ, []):
        if wire.way == "around" and wire.upstream:
            yield Note(
                severity="warning",
                code="around-gateway",
                message=f"The client's server {wire.name!r} reaches the upstream "
                f"{wire.upstream!r} directly, around the gateway; run `gateway init`, or take it "
                "out of the client.",
                path=str(wire.servers.path),
                line=wire.line,
                upstream=wire.upstream,
            )


def _print_json(notes: Iterable[Note], reaches: Iterable[Reach]) -> None:
    for kind, values in (("finding", notes), ("reach", reaches)):
        for value in values:
            print_json_line({"kind": kind, **msgspec.structs.asdict(value)})


def _print_report(
    loaded: Loaded, notes: Iterable[Note], reaches: Iterable[Reach], *, live: bool
) -> None:
    notes, reaches = tuple(notes), tuple(reaches)
    for sentence in loaded.notes:
        print_line(sentence)
    if notes:
        click.echo()
    for note in notes:
        where = f"{note.path}:{note.line}: " if note.path else ""
        # An upstream's last words have several lines.
        first, *more = note.message.split("\n")
        print_line(f"{where}{note.severity}: {first} [{note.code}]")
        for text in more:
            print_line(f"    {text}")
    if reaches:
        click.echo()
        print_table(
            ("AGENT", "UPSTREAM", "DECLARED", "OFFERED", "REACHABLE"),
            [
                (
                    reach.agent,
                    reach.upstream,
                    "all" if reach.whole else str(reach.declared),
                    "?" if reach.offered is None else str(reach.offered),
                    "?" if reach.reachable is None else str(reach.reachable),
                )
                for reach in reaches
            ],
        )
    click.echo()
    print_line(_summary(notes))
    if not live:
        print_line("The upstreams were not asked what they offer: give --live.")


def _summary(notes: Iterable[Note]) -> str:
    notes = tuple(notes)
    counts = []
    for severity in ("error", "warning"):
        count = sum(note.severity == severity for note in notes)
        if count:
            counts.append(f"{count} {severity}{'s' if count > 1 else ''}")
    return f"Found {' and '.join(counts)}." if counts else "Nothing to correct."
