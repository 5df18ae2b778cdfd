"""Writes what was counted in the text format that Prometheus scrapes (version 0.0.4)."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from gateway.telemetry.metering import BUCKETS_S, Histogram, Metering

Labels = Mapping[str, str | int]
Sample = tuple[Labels, float | int]


def exposition(metering: Metering, others: Iterable[str]) -> bytes:
    """The whole text: what `metering` has counted, and families that were written already."""
    return "".join((*_families(metering), *others)).encode()


def family(
    name: str, kind: Literal["counter", "gauge"], about: str, samples: Iterable[Sample]
) -> str:
    """One family of metrics, "" where it has no sample."""
    lines = [f"{name}{_labels(labels)} {_number(value)}\n" for labels, value in samples]
    return "".join((_head(name, kind, about), *lines)) if lines else ""


def _families(metering: Metering) -> Iterator[str]:
    yield family(
        "gateway_calls_total",
        "counter",
        "Requests of clients and of upstreams, by what was decided and how they ended.",
        (
            (
                {
                    "upstream": key.upstream,
                    "method": key.method,
                    "tool": key.tool,
                    "decision": key.decision,
                    "status": key.status,
                },
                count,
            )
            for key, count in sorted(metering.calls.items())
        ),
    )
    yield family(
        "gateway_calls_in_flight",
        "gauge",
        "Allowed requests that have not ended.",
        _by("upstream", metering.in_flight),
    )
    yield _durations(metering.durations)
    yield family(
        "gateway_refusals_total",
        "counter",
        "Refusals by rule; those that were not enforced were only recorded.",
        (
            (
                {
                    "rule": key.rule,
                    "decision": key.decision,
                    "enforced": "true" if key.enforced else "false",
                },
                count,
            )
            for key, count in sorted(metering.refusals.items())
        ),
    )
    yield family(
        "gateway_upstream_up",
        "gauge",
        "1 where the upstream's last connection stood or ended in order, 0 where it was lost.",
        (
            ({"upstream": name}, int(what == "ready"))
            for name, what in sorted(metering.last.items())
        ),
    )
    connections: dict[str, int] = dict.fromkeys(metering.last, 0)
    for name, _ in metering.connections:
        connections[name] = connections.get(name, 0) + 1
    yield family(
        "gateway_upstream_connections",
        "gauge",
        "Connections to the upstream that stand.",
        _by("upstream", connections),
    )
    yield family(
        "gateway_upstream_events_total",
        "counter",
        "How often the upstream became ready, and how often it was lost.",
        (
            ({"upstream": name, "event": what}, count)
            for (name, what), count in sorted(metering.upstream_events.items())
        ),
    )
    yield family(
        "gateway_sessions",
        "gauge",
        "Client sessions of the handshake revisions that are open.",
        (({}, len(metering.sessions)),),
    )


def _durations(durations: Mapping[str, Histogram]) -> str:
    name = "gateway_call_duration_seconds"
    if not durations:
        return ""
    about = "How long allowed requests took, from their arrival to their outcome."
    lines = [_head(name, "histogram", about)]
    for upstream, histogram in sorted(durations.items()):
        below = 0
        for bound, count in zip((*BUCKETS_S, None), histogram.counts, strict=True):
            below += count
            labels = {"upstream": upstream, "le": "+Inf" if bound is None else _number(bound)}
            lines.append(f"{name}_bucket{_labels(labels)} {below}\n")
        labels = {"upstream": upstream}
        lines.append(f"{name}_sum{_labels(labels)} {_number(histogram.sum_us / 1e6)}\n")
        lines.append(f"{name}_count{_labels(labels)} {histogram.count}\n")
    return "".join(lines)


def _by(label: str, values: Mapping[str, int]) -> Iterator[Sample]:
    return (({label: name}, value) for name, value in sorted(values.items()))


def _head(name: str, kind: str, about: str) -> str:
    return f"# HELP {name} {about}\n# TYPE {name} {kind}\n"


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str | int) -> str:
    text = str(value).encode("utf-8", "replace").decode()
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float | int) -> str:
    return str(value) if isinstance(value, int) else repr(value).removesuffix(".0")
