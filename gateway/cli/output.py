"""Printing for the command line: tables, JSON lines, and text that cannot fool the terminal.

Names, descriptions and messages come from servers and files that nobody vouches for: everything
printed here shows control, bidirectional and invisible characters as escapes.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

import click

from gateway.errors import UserError
from gateway.escaping import escape as escape


def print_line(text: str) -> None:
    """Print one escaped line to stdout."""
    click.echo(escape(text))


def complain(error: UserError) -> None:
    """Print an error to stderr, one `path:line: sentence` for each problem it holds.

    Without secrets: a sentence may quote what stands in a file or what an upstream said.
    """
    from gateway.redaction.redactor import redact_text  # most commands have nothing to complain of

    for problem in getattr(error, "problems", (error,)):
        where = "" if problem.path is not None else "gateway: "
        click.echo(where + escape(redact_text(str(problem))), err=True)


def print_json_line(value: object) -> None:
    """Print `value` (builtins, structs, dataclasses) as one line of ASCII JSON to stdout."""
    click.echo(json_line(value))


def json_line(value: object) -> str:
    """`value` (builtins, structs, dataclasses) as one line of ASCII JSON."""
    import msgspec  # not needed by the commands that never print JSON

    line = json.dumps(value, default=msgspec.to_builtins, separators=(",", ":"))
    return line.replace("\x7f", "\\u007f")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under their column names to stdout.

    A terminal gets a table that folds to its width; a pipe gets plain aligned columns, one row a
    line, never cut.
    """
    cells = [[escape(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(columns, cells, sys.stdout)
    else:
        _print_plain(columns, cells)


def _print_rich(columns: Sequence[str], rows: list[list[str]], stream: TextIO) -> None:
    # Imported here: rich costs more than most commands take.
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        # Text, not str: square brackets in a name are no markup.
        table.add_row(*(Text(cell) for cell in row))
    Console(file=stream).print(table)


def _print_plain(columns: Sequence[str], rows: list[list[str]]) -> None:
    lines = [list(columns), *rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(padded).rstrip())
