"""`gateway check`: everything that is worth attention, before a client finds out."""

from collections.abc import Iterable
from pathlib import Path

import click
import msgspec

from gateway.cli.asking import ask_upstreams
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
from gateway.config.load import Loaded, load
from gateway.errors import UserError
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
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def command(config: Path | None, live: bool, agent: str | None, as_json: bool) -> int:
    """Check the configuration, the agent files and what the upstreams offer.

    Reads every file, resolves every reference, and with --live asks every upstream for its tools:
    which declared ones are gone, and what most likely took their place. The exit code is 1 if there
    is a warning or an error, 2 if the configuration cannot be used, a variable has no value or an
    upstream does not start.
    """
    loaded = load(config, cwd=Path.cwd(), trusted=False)
    agents = _chosen(loaded, agent)
    unresolved = of_references(loaded)
    notes = [*of_files(loaded, agent), *of_refusals(loaded, agent), *unresolved]
    unusable = {note.upstream for note in unresolved}
    usable = [
        name
        for name, traits in loaded.snapshot.upstreams.items()
        if name not in unusable and not traits.held
    ]
    surveyed = ask_upstreams(loaded.settings, usable if live else ())
    notes += of_survey(loaded, agents, surveyed)
    reaches = [reach for one in agents for reach in reaches_of(one, loaded.snapshot, surveyed)]
    if as_json:
        _print_json(notes, reaches)
    else:
        _print_report(loaded, notes, reaches, live=live)
    if any(note.code in _CANNOT_RUN for note in notes):
        return EXIT_CANNOT_RUN
    return EXIT_FINDINGS if any(note.severity != "info" for note in notes) else 0


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
