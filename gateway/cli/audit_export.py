"""`gateway audit export`: calls for other programs, as JSON lines or CSV, however many."""

import csv
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Final, TextIO

import click

from gateway.audit.calls import Call, Filters
from gateway.cli import output
from gateway.cli.audit_options import Source, log_options, opened_log, which
from gateway.errors import UserError

CSV_COLUMNS: Final = (
    *("time", "call", "agent", "identified", "session", "transport", "upstream", "tool", "method"),
    *("name", "decision", "enforced", "rule", "file", "line", "reason", "status", "outcome_time"),
    *("duration_us", "error_code", "result_size_bytes", "result_digest", "changes", "observed"),
    *(
        "arguments",
        "snapshot",
        "definition",
        "protocol",
        "client",
        "trace",
        "writer",
        "seq",
        "prev",
    ),
)
"""The columns of a CSV export: fields of the records, objects as JSON."""

_FORMULA: Final = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What spreadsheets take for the beginning of a formula."""


@click.command()
@click.option("--format", "form", type=click.Choice(["jsonl", "csv"]), default="jsonl")
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Into this file, which is there when it is whole, for its owner alone. Default: stdout.",
)
@which()
@log_options
def export(
    form: str,
    path: Path | None,
    source: Source,
    **filters: str | None,
) -> None:
    """Export the calls that match, the newest last.

    As JSON lines, one object a call with both its records, or as CSV with a line of column names.
    In CSV an apostrophe comes before a text that a spreadsheet would take for a formula, and
    characters that do not show are written as escapes; JSON lines keep every text as it is.
    """
    write = _WRITERS[form]
    with opened_log(source) as log:
        calls = log.stream(Filters(**filters))
        if path is None:
            if isinstance(sys.stdout, TextIOWrapper):
                sys.stdout.reconfigure(encoding="utf-8", newline="")
            count = write(calls, sys.stdout)
        else:
            with _new_file(path) as file:
                count = write(calls, file)
    click.echo(f"gateway: {count} calls", err=True)


def _write_jsonl(calls: Iterable[Call], file: TextIO) -> int:
    count = 0
    for count, call in enumerate(calls, 1):  # noqa: B007 - counts
        file.write(output.json_line(call.fields()))
        file.write("\n")
    return count


def _write_csv(calls: Iterable[Call], file: TextIO) -> int:
    writer = csv.writer(file, lineterminator="\r\n")  # as RFC 4180 has it
    writer.writerow(CSV_COLUMNS)
    count = 0
    for count, call in enumerate(calls, 1):  # noqa: B007 - counts
        fields = {"enforced": True, **call.fields()}
        writer.writerow([_cell(fields.get(column)) for column in CSV_COLUMNS])
    return count


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        text = output.escape(value)
        return f"'{text}" if text.lstrip().startswith(_FORMULA) else text
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


_WRITERS: Final[Mapping[str, Callable[[Iterable[Call], TextIO], int]]] = {
    "jsonl": _write_jsonl,
    "csv": _write_csv,
}


@contextmanager
def _new_file(path: Path) -> Iterator[TextIO]:
    """A file that takes its place when the block ends well, and is gone otherwise."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.exists() and not path.is_file():
            raise UserError("is no regular file; without --output it is stdout", path=str(path))
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        beside.replace(path)
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", path=str(path)) from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
