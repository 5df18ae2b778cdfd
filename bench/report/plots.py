"""Bar charts in SVG, written by hand: no plotting library for four figures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from bench.measure.results import Results
from bench.subjects.subject import COMBOS

_WIDTH = 760
_LABEL = 220
_ROW = 18
_COLOURS = {
    "direct": "#8a8f98",
    "relay": "#5b8def",
    "gateway": "#1f9d55",
    "gateway, power": "#7fc8a0",
}
_PEER = "#d9822b"


@dataclass(frozen=True)
class Chart:
    """One figure: a metric on a logarithmic axis, a bar for each path."""

    name: str
    title: str
    metric: str
    digits: int = 0


CHARTS = (
    Chart("latency", "p50 latency with one call in flight, us (shorter is better)", "p50_1_us"),
    Chart("throughput", "Calls a second with 64 in flight (longer is better)", "calls_64_per_s"),
    Chart("large-result", "A result of 10 MB, ms (shorter is better)", "size_10mb_ms"),
    Chart("memory", "Resident memory when idle, MB (shorter is better)", "rss_idle_mb"),
)


def svg(chart: Chart, results: Results) -> str:
    """The figure."""
    groups = [
        (
            combo,
            [(name, results.value(name, combo, chart.metric)) for name in _known(results, combo)],
        )
        for combo in COMBOS
    ]
    bars: list[tuple[str, str, float]] = []
    for combo, values in groups:
        bars += [(combo, name, value) for name, value in values if value is not None and value > 0]
    if not bars:
        return ""
    low = 10 ** math.floor(math.log10(min(value for _, _, value in bars)))
    high = 10 ** math.ceil(math.log10(max(value for _, _, value in bars)) + 0.001)
    return _drawn(chart, bars, low, high)


def _known(results: Results, combo: str) -> Sequence[str]:
    return [
        name
        for name in dict.fromkeys(sample.subject for sample in results.samples)
        if results.value(name, combo, "list_s") is not None and "world" not in name
    ]


def _drawn(chart: Chart, bars: list[tuple[str, str, float]], low: float, high: float) -> str:
    room = _WIDTH - _LABEL - 80
    scale = room / (math.log10(high) - math.log10(low))
    lines: list[str] = []
    top, last = 40, ""
    for combo, name, value in bars:
        if last and combo != last:
            top += _ROW // 2
        last = combo
        length = max(1.0, (math.log10(value) - math.log10(low)) * scale)
        colour = _COLOURS.get(name, _PEER)
        middle = top + _ROW * 0.7
        lines += [
            f'<text x="{_LABEL - 8}" y="{middle:.0f}" text-anchor="end">'
            f"{escape(f'{combo} {name}')}</text>",
            f'<rect x="{_LABEL}" y="{top + 2}" width="{length:.1f}" height="{_ROW - 5}" '
            f'fill="{colour}"/>',
            f'<text x="{_LABEL + length + 5:.1f}" y="{middle:.0f}">'
            f"{value:,.{chart.digits}f}</text>",
        ]
        top += _ROW
    axis = []
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        x = _LABEL + (power - math.log10(low)) * scale
        axis.append(f'<line x1="{x:.1f}" y1="34" x2="{x:.1f}" y2="{top}" stroke="#e3e5e8"/>')
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{top + 12}" '
            'font-family="sans-serif" font-size="12">',
            '<rect width="100%" height="100%" fill="#fff"/>',
            f'<text x="12" y="22" font-size="14" font-weight="bold">{escape(chart.title)}</text>',
            *axis,
            *lines,
            "</svg>\n",
        )
    )
