"""The results as markdown tables."""

from collections.abc import Iterable, Iterator

from bench.measure.growth import LARGE, SMALL
from bench.measure.results import Results
from bench.report.targets import Target
from bench.subjects.subject import COMBOS

_COLUMNS = (
    ("initialize_s", "start to initialize s", 2),
    ("list_s", "to tools/list s", 2),
    ("p50_1_us", "p50 us", 0),
    ("p99_1_us", "p99 us", 0),
    ("calls_1_per_s", "calls/s at 1", 0),
    ("calls_16_per_s", "at 16", 0),
    ("calls_64_per_s", "at 64", 0),
    ("cpu_64_us", "CPU us a call at 64", 0),
    ("size_1mb_ms", "1 MB ms", 1),
    ("size_1mb_16_ms", "1 MB at 16 ms", 0),
    ("size_10mb_ms", "10 MB ms", 0),
    ("size_10mb_wide_ms", "10 MB not ASCII ms", 0),
    ("stall_ms", "stall by 10 MB ms", 0),
    ("rss_idle_mb", "RSS idle MB", 0),
    ("rss_loaded_mb", "after load", 0),
    ("added_by_10mb_mb", "added by 10 MB", 0),
    ("rss_after_10mb_mb", "after 10 MB", 0),
)
_RATES = (100, 1000)


def calls_table(results: Results) -> str:
    """Every subject in every combination."""
    header = ["path", *(title for _, title, _ in _COLUMNS)]
    rows = [
        [
            f"{combo} {subject}",
            *(
                _number(results.value(subject, combo, metric), digits)
                for metric, _, digits in _COLUMNS
            ),
        ]
        for combo in COMBOS
        for subject in results.subjects(combo)
        if subject not in (SMALL.name, LARGE.name)
    ]
    return table(header, rows)


def open_table(results: Results) -> str:
    """The open loop: latencies from when a call was due."""
    measured = {sample.metric for sample in results.samples}
    columns = [
        (f"open_{rate}_{what}_us", f"{rate}/s {what} us")
        for rate in _RATES
        for what in ("p50", "p99")
        if f"open_{rate}_{what}_us" in measured
    ]
    header = ["path", *(title for _, title in columns)]
    rows = []
    for combo in COMBOS:
        for subject in results.subjects(combo):
            values = [results.value(subject, combo, metric) for metric, _ in columns]
            if any(value is not None for value in values):
                rows.append([f"{combo} {subject}", *(_number(value, 0) for value in values)])
    return table(header, rows)


def sessions_table(results: Results) -> str:
    """Memory of idle sessions."""
    rows = [
        [
            f"HH {subject}",
            _number(results.value(subject, "HH", "sessions_opened"), 0),
            _number(results.value(subject, "HH", "rss_sessions_mb"), 0),
            _number(results.value(subject, "HH", "session_kb"), 1),
        ]
        for subject in results.subjects("HH")
        if results.value(subject, "HH", "sessions_opened") is not None
    ]
    return table(["path", "idle sessions", "RSS MB", "KB each"], rows)


def growth_table(results: Results) -> str:
    """The large world beside the small one."""
    columns = (
        ("p50_1_us", "p50 us", 0),
        ("calls_64_per_s", "calls/s at 64", 0),
        ("cpu_64_us", "CPU us a call", 0),
        ("listed_tools", "tools listed", 0),
        ("listing_ms", "listing ms", 0),
        ("initialize_s", "start to initialize s", 2),
        ("list_s", "to first listing s", 2),
        ("rss_loaded_mb", "RSS MB", 0),
    )
    rows = [
        [
            f"{world.name}: tools {world.upstreams * world.tools_each:,}, upstreams "
            f"{world.upstreams}, agents {world.agents}, declared entries {world.entries:,}",
            *(
                _number(results.value(world.name, "SH", name), digits)
                for name, _, digits in columns
            ),
        ]
        for world in (SMALL, LARGE)
    ]
    return table(["world", *(title for _, title, _ in columns)], rows)


def targets_table(targets: Iterable[Target]) -> str:
    """Reached or not."""
    words = {True: "reached", False: "**not reached**", None: "not measured"}
    rows = []
    for target in targets:
        sign = "at least" if target.at_least else "at most"
        unit = f" {target.unit}" if target.unit else ""
        value = "-" if target.value is None else f"{target.value:.3g}{unit}"
        rows.append([target.what, f"{sign} {target.bound:g}{unit}", value, words[target.reached]])
    return table(["target", "bound", "measured", ""], rows)


def problems_table(results: Results) -> str:
    """What could not be measured, and why."""
    rows = [
        [f"{each.combo} {each.subject}", each.metric or "all", each.reason.replace("|", "\\|")]
        for each in results.problems
    ]
    return table(["path", "measurement", "reason"], rows)


def table(header: list[str], rows: Iterable[list[str]]) -> str:
    """A markdown table."""
    return "\n".join(_lines(header, rows)) + "\n"


def _lines(header: list[str], rows: Iterable[list[str]]) -> Iterator[str]:
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
