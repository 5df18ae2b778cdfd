"""`gateway matrix`: agents and tools in one table, and the line that decides each cell."""

import difflib
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import click

from gateway.catalog.listing import UpstreamCatalog
from gateway.cli.asking import ask_upstreams
from gateway.cli.output import complain, print_json_line, print_line, print_table
from gateway.config.load import Loaded, load
from gateway.errors import UserError
from gateway.policy.matrix import Cell, Row, cells_of, rows_of
from gateway.policy.snapshot import AgentPermissions

EXIT_CANNOT_RUN = 2

_PIPED_COLUMNS = 100_000
_GAP = 3
"""Columns between two cells of a table on a terminal."""
_LEAST_CELL = 9
_REASONS = frozenset(("asked", "denied", "drifted"))
"""States of cells that are told with what decided them."""


@click.command(name="matrix")
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration. Default: gateway.yaml here or above, else .mcp.json.",
)
@click.option("--live", is_flag=True, help="Also ask every upstream which tools it offers.")
@click.option("--agent", metavar="NAME", help="Only this agent. Default: all of them.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "html"]),
    default="text",
    show_default=True,
    help="A table, one JSON object for each cell, or a page for a browser.",
)
def command(config: Path | None, live: bool, agent: str | None, form: str) -> int:
    """Show what every agent may do with every tool of an upstream.

    Without --live the tools are those that the lists name; with it, also every one that an upstream
    offers. A cell says `yes` (reachable), `if` (reachable as far as rules on arguments, time,
    caller or limits let it), `ask` (a person must say yes), `denied` (declared, but something else
    says no), `gone` (declared, but not offered) or `.` (not declared). The numbers lead to what
    decides, below the table. The client's own tools are not shown. The exit code is 2 if an
    upstream cannot be asked.
    """
    loaded = load(config, cwd=Path.cwd(), trusted=False)
    agents = _chosen(loaded, agent)
    catalogs, problems = _ask(loaded) if live else ({}, ())
    rows = rows_of(agents, loaded.snapshot.rules.rules, catalogs)
    cells = tuple(cells_of(agents, rows, loaded.snapshot, catalogs))
    if form == "json":
        for cell in cells:
            print_json_line(cell)
    elif form == "html":
        # Imported here: only this form needs it.
        from gateway.cli.matrix_page import page

        click.echo(page(_title(loaded), [one.name for one in agents], rows, cells, live=live))
    else:
        _print(agents, rows, cells, live=live)
    for problem in problems:
        complain(problem)
    return EXIT_CANNOT_RUN if problems else 0


def _chosen(loaded: Loaded, name: str | None) -> list[AgentPermissions]:
    agents = loaded.snapshot.agents
    if name is None:
        return list(agents.values())
    if name not in agents:
        near = difflib.get_close_matches(name, agents, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(agents) or 'none'}"
        raise UserError(
            f"No agent file that is read defines the agent {name!r}; {hint}",
            path=loaded.settings.path or None,
        )
    return [agents[name]]


def _ask(loaded: Loaded) -> tuple[Mapping[str, UpstreamCatalog], Sequence[UserError]]:
    """What the accepted upstreams offer, and why others could not be asked."""
    traits = loaded.snapshot.upstreams
    accepted = (name for name in loaded.settings.upstreams if not traits[name].held)
    catalogs, problems = {}, []
    for name, answer in ask_upstreams(loaded.settings, accepted).items():
        if answer.catalog is not None:
            catalogs[name] = answer.catalog
        else:
            entry = loaded.settings.upstreams[name]
            problems.append(UserError(answer.problem, path=entry.path, line=entry.line))
    return catalogs, problems


def _title(loaded: Loaded) -> str:
    return f"Agents and tools: {loaded.settings.path or Path(loaded.settings.root).name}"


def _print(
    agents: Sequence[AgentPermissions], rows: Sequence[Row], cells: Sequence[Cell], *, live: bool
) -> None:
    if not rows:
        print_line("There is no tool to show: no agent names one of an upstream's tools.")
    notes = _Notes()
    texts = {(cell.tool, cell.agent): _text(cell, notes) for cell in cells}
    for number, names in enumerate(_blocks([agent.name for agent in agents], rows)):
        if number:
            click.echo()
        print_table(
            ("TOOL", *names),
            [(row.tool_id, *(texts[row.tool_id, name] for name in names)) for row in rows],
        )
    if notes.texts:
        click.echo()
    for note in notes.texts:
        print_line(note)
    if any(row.several for row in rows):
        click.echo()
        print_line(SEVERAL)
    if not live:
        click.echo()
        print_line("The upstreams were not asked what they offer: give --live.")


def _blocks(names: Sequence[str], rows: Sequence[Row]) -> Iterator[Sequence[str]]:
    """The agents' names in as many tables as it takes for each to fit its width."""
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPED_COLUMNS
    first = max((len(row.tool_id) for row in rows), default=0)
    room = columns - min(first, columns // 2)
    block: list[str] = []
    used = 0
    for name in names:
        width = max(len(name), _LEAST_CELL) + _GAP
        if block and used + width > room:
            yield block
            block, used = [], 0
        block.append(name)
        used += width
    if block and rows:
        yield block


class _Notes:
    """What decides cells, each said once and numbered."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    @property
    def texts(self) -> Iterable[str]:
        return [f"[{number}] {text}" for text, number in self._numbers.items()]

    def number(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers) + 1)


def _text(cell: Cell, notes: _Notes) -> str:
    word = word_of(cell)
    if cell.conditions and cell.state == "reachable":
        rules = ", ".join(f"{each.rule} ({each.file}:{each.line})" for each in cell.conditions)
        return f"{word} [{notes.number(f'as far as these rules let it: {rules}')}]"
    if cell.state not in _REASONS:
        return word
    where = f" ({cell.file}:{cell.line})" if cell.file else ""
    told = f"{cell.rule}{where}"
    if not cell.enforced:
        told += ", only observed: it is let through"
    return f"{word} [{notes.number(told)}]"


def word_of(cell: Cell) -> str:
    """What a cell says in one word."""
    return "if" if cell.state == "reachable" and cell.conditions else _WORDS[cell.state]


SEVERAL = "A line with a * stands for every other tool whose name begins so."
_WORDS = {
    "reachable": "yes",
    "asked": "ask",
    "denied": "denied",
    "drifted": "gone",
    "undeclared": ".",
}
