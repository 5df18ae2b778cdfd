"""Charts as SVG, made on the server. Each has a table beside it that says the same."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import msgspec
from markupsafe import Markup

from gateway.console.rendering import duration, number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.audit.log import Activity
    from gateway.console.asking import Span

_WIDTH: Final = 1000
_HEIGHT: Final = 160


class Bucket(msgspec.Struct, frozen=True):
    """One minute, hour or day of a chart."""

    start: str
    allowed: int
    failed: int
    refused: int
    p50_us: int | None
    p95_us: int | None

    @property
    def calls(self) -> int:
        """All of them."""
        return self.allowed + self.failed + self.refused

    @property
    def label(self) -> str:
        """Its start, for people."""
        return label(self.start)


def buckets(span: Span, activity: Sequence[Activity]) -> list[Bucket]:
    """All parts of the span, those without calls included."""
    found: Mapping[str, Activity] = {each.start: each for each in activity}
    made = []
    for start in span.starts:
        each = found.get(start)
        if each is None:
            made.append(Bucket(start, 0, 0, 0, None, None))
            continue
        allowed = max(0, each.calls - each.refused - each.failed)
        made.append(Bucket(start, allowed, each.failed, each.refused, each.p50_us, each.p95_us))
    return made


def label(start: str) -> str:
    """The start of a part as an axis has it."""
    if len(start) == 10:
        return start[5:]
    if len(start) == 13:
        return f"{start[5:10]} {start[11:]}:00"
    return start[11:]


def ceiling(value: float) -> int:
    """A round number that is not less: where an axis ends."""
    if value <= 4:
        return 4
    power = 10 ** math.floor(math.log10(value))
    return next(int(step * power) for step in (1, 2, 4, 5, 8, 10) if step * power >= value)


def calls_chart(parts: Sequence[Bucket]) -> Markup:
    """Calls over time: what was let through, what failed, what was refused, one upon the other."""
    top = ceiling(max((part.calls for part in parts), default=0))
    step = _WIDTH / max(len(parts), 1)
    width = step * 0.78
    shapes = []
    for index, part in enumerate(parts):
        base = float(_HEIGHT)
        for kind, count in (
            ("allowed", part.allowed),
            ("failed", part.failed),
            ("refused", part.refused),
        ):
            if count:
                height = max(count / top * _HEIGHT, 1.5)
                base -= height
                shapes.append(
                    f'<rect class="{kind}" x="{index * step + step * 0.11:.1f}" y="{base:.1f}" '
                    f'width="{width:.1f}" height="{height:.1f}"/>'
                )
    total = sum(part.calls for part in parts)
    refused = sum(part.refused for part in parts)
    said = f"{number(total)} calls, {number(refused)} of them refused"
    return _chart(said, shapes, number(top))


def latency_chart(parts: Sequence[Bucket]) -> Markup:
    """How long calls took, the half of them and nearly all of them; logarithmic."""
    values = [part.p95_us for part in parts if part.p95_us is not None]
    values += [part.p50_us for part in parts if part.p50_us is not None]
    if not values:
        return _chart("no calls with an answer", [], "")
    least = 10 ** math.floor(math.log10(max(min(values), 1)))
    most = max(10 ** math.ceil(math.log10(max(*values, 10))), least * 10)
    scale = math.log10(most / least)

    def y(value: int) -> float:
        return _HEIGHT - math.log10(max(value, least) / least) / scale * _HEIGHT

    step = _WIDTH / max(len(parts), 1)
    shapes = []
    for kind in ("p95", "p50"):
        points: list[tuple[float, float]] = []
        for index, part in enumerate(parts):
            value = part.p95_us if kind == "p95" else part.p50_us
            if value is None:
                shapes += _line(kind, points)
                points = []
            else:
                points.append(((index + 0.5) * step, y(value)))
        shapes += _line(kind, points)
    slowest = max(part.p95_us or 0 for part in parts)
    return _chart(f"95 of 100 calls within {duration(slowest)} at most", shapes, duration(most))


def _line(kind: str, points: Sequence[tuple[float, float]]) -> list[str]:
    if not points:
        return []
    if len(points) == 1:  # a line of no length, with round ends: a dot
        points = [points[0], (points[0][0] + 0.01, points[0][1])]
    where = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return [f'<polyline class="{kind}" points="{where}"/>']


def _chart(said: str, shapes: Sequence[str], top: str) -> Markup:
    grid = "".join(
        f'<line class="grid" x1="0" x2="{_WIDTH}" y1="{y}" y2="{y}"/>'
        for y in (0.5, _HEIGHT / 2, _HEIGHT - 0.5)
    )
    # The numbers and words in it are our own; those of others never get here.
    return Markup(  # noqa: S704
        f'<svg class="chart" role="img" aria-label="{said}" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'preserveAspectRatio="none">{grid}{"".join(shapes)}</svg>'
        f'<span class="top" aria-hidden="true">{top}</span>'
    )
