"""`gateway audit stats`: the log at a glance, drawn in the terminal."""

import shutil
import sys
from collections.abc import Sequence
from typing import Final

import click
import msgspec

from gateway.audit.calls import Cursor, Filters
from gateway.audit.log import Activity, AuditLog, Dimension, Tally, Unit
from gateway.audit.units import fitting, starts_between
from gateway.cli import drawing, output
from gateway.cli.audit_options import (
    Source,
    json_option,
    log_options,
    opened_log,
    say_nothing_found,
    which,
)

_TOP: Final = 10
_LABEL: Final = 9  # cells of what stands before a line
_FIGURE: Final = 14  # and of what stands after it
_LEAST_WIDTH: Final = 48
_LEAST_BAR: Final = 10


class _Stats(msgspec.Struct, frozen=True, kw_only=True):
    """What is drawn, the form of `--json`."""

    since: str
    until: str
    unit: Unit
    every: int
    calls: int
    refused: int
    failed: int
    activity: list[Activity]
    agents: list[Tally]
    tools: list[Tally]


@click.command()
@which()
@log_options
@json_option
def stats(source: Source, as_json: bool, **filters: str | None) -> None:
    """Draw calls, refusals, failures and durations over time, and the busiest tools and agents.

    As wide as the terminal, or 80 characters in a pipe. A blank is nought; each line of characters
    goes from nought to the figure at its end.
    """
    width = max(shutil.get_terminal_size((80, 24)).columns, _LEAST_WIDTH)
    room = width - _LABEL - _FIGURE
    with opened_log(source) as log, log.snapshot():
        found = _stats(log, Filters(**filters), room)
    if found is None:
        say_nothing_found("no call matches")
    elif as_json:
        output.print_json_line(found)
    else:
        blocks = drawing.can_draw(getattr(sys.stdout, "encoding", None))
        for line in _drawn(found, width, room, blocks=blocks):
            click.echo(line.rstrip())


def _stats(log: AuditLog, filters: Filters, room: int) -> _Stats | None:
    first = log.calls(filters, 1, after=Cursor("", ""), lines=False)
    last = log.calls(filters, 1, lines=False)
    if not first or not last:
        return None
    since, until = first[0].decision.time, last[0].decision.time
    try:
        unit, every = fitting(since, until, room)
    except (ValueError, OverflowError):  # somebody else wrote that time
        unit, every = "day", 1
    tallies: dict[Dimension, list[Tally]] = {
        dimension: log.tallies(dimension, filters, _TOP) for dimension in ("agent", "tool")
    }
    activity = log.activity(unit, filters, every)
    return _Stats(
        since=since,
        until=until,
        unit=unit,
        every=every,
        calls=sum(each.calls for each in activity),
        refused=sum(each.refused for each in activity),
        failed=sum(each.failed for each in activity),
        activity=activity,
        agents=tallies["agent"],
        tools=tallies["tool"],
    )


def _drawn(found: _Stats, width: int, room: int, *, blocks: bool) -> list[str]:
    unit = f"one {found.unit}" if found.every == 1 else f"{found.every} {found.unit}s"
    lines = [
        f"{found.calls:,} calls, {_share(found.refused, found.calls)} refused, "
        f"{_share(found.failed, found.calls)} failed",
        f"{output.escape(found.since[:16])} to {output.escape(found.until[:16])} UTC, "
        f"one character is {unit}",
        "",
        *_over_time(found, room, blocks=blocks),
    ]
    for heading, tallies in (("Tools", found.tools), ("Agents", found.agents)):
        lines += ["", heading, *_busiest(tallies, width, blocks=blocks)]
    return lines


def _over_time(found: _Stats, room: int, *, blocks: bool) -> list[str]:
    by_start = {each.start: each for each in found.activity}
    try:
        starts = starts_between(found.since, found.until, found.unit, found.every, room)
    except (ValueError, OverflowError):
        starts = sorted(by_start)[-room:]
    columns = [by_start.get(start) for start in starts]
    lines = []
    for label, field in (("calls", "calls"), ("refused", "refused"), ("failed", "failed")):
        counts = [0 if each is None else getattr(each, field) for each in columns]
        figure = f"max {max(counts, default=0):,}"
        lines.append(_line(label, counts, figure, room, blocks=blocks))
    for label, field in (("ms p50", "p50_us"), ("ms p95", "p95_us")):
        durations = [None if each is None else getattr(each, field) for each in columns]
        highest = max((each for each in durations if each is not None), default=0)
        figure = f"max {highest / 1000:,.1f}"
        lines.append(_line(label, durations, figure, room, blocks=blocks))
    return lines


def _line(
    label: str, values: Sequence[float | None], figure: str, room: int, *, blocks: bool
) -> str:
    return f"{label:<{_LABEL}}{drawing.line(values, blocks=blocks):<{room}} {figure}"


def _busiest(tallies: Sequence[Tally], width: int, *, blocks: bool) -> list[str]:
    names = [output.escape(tally.name or "(none)") for tally in tallies]
    figures = [
        f"{tally.calls:>11,}  {_share(tally.refused, tally.calls)} refused, "
        f"{_share(tally.failed, tally.calls)} failed"
        for tally in tallies
    ]
    longest = max(map(len, figures), default=0)
    left = max(width - longest, 0)
    for_names = min(max(map(len, names), default=0), max(left - _LEAST_BAR - 1, left // 2))
    for_bars = left - for_names - 1
    highest = max((tally.calls for tally in tallies), default=0)
    if for_bars < 3 and left < 12:  # too narrow for anything but names and figures
        return [
            f"{drawing.fitted(name, max(left, 8))}{figure}"
            for name, figure in zip(names, figures, strict=True)
        ]
    return [
        f"{drawing.fitted(name, for_names)} "
        f"{drawing.bar(tally.calls, highest, for_bars, blocks=blocks):<{for_bars}}{figure}"
        for name, figure, tally in zip(names, figures, tallies, strict=True)
    ]


def _share(part: int, whole: int) -> str:
    """A share in per cent; what is not nought is never shown as nought."""
    share = part / whole * 100 if whole else 0.0
    return "0 %" if not part else f"{share:.1f} %" if share >= 0.1 else "<0.1 %"
