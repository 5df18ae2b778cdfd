"""Puts a run into `bench/results` and into docs/performance.md, between its markers."""

from pathlib import Path

import msgspec

from bench.measure.results import Results
from bench.places import PLOTS, REPORT, RESULTS
from bench.report import tables
from bench.report.plots import CHARTS, svg
from bench.report.targets import targets


def save(results: Results) -> Path:
    """Write the raw results under their date."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    encoded = msgspec.json.encode(results)
    path = RESULTS / f"{results.started[:10]}.json"
    path.write_bytes(encoded + b"\n")
    return path


def latest() -> Results:
    """The results of the last run that was saved."""
    path = max(RESULTS.glob("20*.json"))
    return msgspec.json.decode(path.read_bytes(), type=Results)


def summary(results: Results) -> str:
    """Everything about a run, in markdown."""
    machine = results.machine
    peers = ", ".join(f"{name} {version}" for name, version in results.peers.items())
    parts = [
        f"Run of {results.started}, mode {results.mode}, {results.rounds} rounds in "
        f"{results.duration_s:.0f} s; {machine.cpus} cores ({machine.cpu}), Python "
        f"{machine.python}, load average {machine.load[0]} before and {machine.load[1]} after. "
        f"Peers: {peers or 'none'}.",
        "### Targets\n\n" + tables.targets_table(targets(results)),
        "### Paths\n\n" + tables.calls_table(results),
        "### Open loop\n\n" + tables.open_table(results),
        "### Idle sessions\n\n" + tables.sessions_table(results),
        "### Growth\n\n" + tables.growth_table(results),
        "### Not measured\n\n" + tables.problems_table(results),
    ]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def publish(results: Results) -> None:
    """Draw the plots and renew the page's part about the last run."""
    PLOTS.mkdir(parents=True, exist_ok=True)
    for chart in CHARTS:
        drawn = svg(chart, results)
        if drawn:
            (PLOTS / f"{chart.name}.svg").write_text(drawn)
    insert(REPORT, "results", summary(results))


def insert(page: Path, marker: str, text: str) -> None:
    """Replace what stands between the page's markers of that name."""
    start, end = f"<!-- {marker} -->", f"<!-- /{marker} -->"
    before, found, rest = page.read_text().partition(start)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page.name} has no markers {start} and {end}")
    page.write_text(f"{before}{start}\n\n{text.strip()}\n\n{end}{after}")
