"""Puts the figures of the audit log into docs/audit-questions.md, between its markers."""

from pathlib import Path
from typing import Final

import msgspec

from bench.audit.measure import Results, Stored
from bench.places import RESULTS, ROOT
from bench.report.page import insert

PAGE: Final = ROOT / "docs" / "audit-questions.md"
_LATEST: Final = "audit.json"


def save(results: Results) -> Path:
    """Write the raw figures."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / _LATEST
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    return path


def publish(results: Results) -> None:
    """Renew the page's part about the last run."""
    insert(PAGE, "figures", summary(results))


def summary(results: Results) -> str:
    """All figures of a run, in markdown."""
    records = results.records
    rows = [
        (
            "appending, one record at a time",
            _rate(records, results.append_s, results.append_processor_s),
        ),
        ("journals on the disk", _size(results.journal_bytes, records)),
        ("the same compressed", _size(results.packed_bytes, records)),
        (f"`verify` with {results.cpus} processes", _rate(records, results.verify_s)),
        (
            "indexing from nothing",
            _rate(records, results.index.filling_s, results.index.processor_s),
        ),
        ("the index on the disk", _size(results.index.size_bytes, records)),
        ("one call of a compressed segment", f"{results.packed_show_ms:.0f} ms"),
        (
            "answers after the index was deleted",
            "the same" if results.same_after_deletion else "NOT the same",
        ),
    ]
    if results.postgres is not None:
        rows += [
            ("copying to PostgreSQL, one gateway", _rate(records, results.postgres.filling_s)),
            ("the database on the disk", _size(results.postgres.size_bytes, records)),
        ]
    return "\n".join(
        [
            f"Run of {results.started}: {records:,} records of {results.calls:,} calls, "
            f"{results.cpus} cores, load average {results.load[0]:.1f} before and "
            f"{results.load[1]:.1f} after.",
            "",
            "| | |",
            "|---|---:|",
            *(f"| {name} | {value} |" for name, value in rows),
            "",
            *_questions(results.index, results.postgres),
        ]
    )


def _questions(index: Stored, postgres: Stored | None) -> list[str]:
    heading = "| question, in milliseconds | index, first | again | processor |"
    line = "|---|---:|---:|---:|"
    if postgres is not None:
        heading, line = f"{heading} PostgreSQL, first | again |", f"{line}---:|---:|"
    rows = [heading, line]
    for number, asked in enumerate(index.asked):
        cells = [asked.question, *map(_ms, (asked.first_ms, asked.again_ms, asked.processor_ms))]
        if postgres is not None:
            there = postgres.asked[number]
            cells += [_ms(there.first_ms), _ms(there.again_ms)]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _rate(records: int, seconds: float, processor_s: float | None = None) -> str:
    told = f"{records / seconds:,.0f} records/s ({seconds:.1f} s"
    if processor_s is None:
        return f"{told})"
    return f"{told}; {processor_s:.1f} s of one processor)"


def _size(size_bytes: int, records: int) -> str:
    return f"{size_bytes / 1e6:,.0f} MB ({size_bytes / records:.0f} bytes a record)"


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:.1f}" if milliseconds < 10 else f"{milliseconds:.0f}"
