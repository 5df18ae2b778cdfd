"""Sends spans and metrics by OpenTelemetry's SDK, from threads of its own.

The event loop only puts what is over into a bounded queue. What does not fit, and what nobody takes
in time, is lost.
"""

import importlib.util
import sys
import threading
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import msgspec

from gateway.errors import UserError
from gateway.telemetry.finished import Finished, SessionOver

if TYPE_CHECKING:
    from gateway.telemetry.pipeline import Pipeline

QUEUED = 8_192
_EVERY_S = 0.5
_STOP_S = 2.0
_HURRY_AT = 512

Signal = Literal["traces", "metrics"]


class Target(msgspec.Struct, frozen=True):
    """What is sent, and where to. `endpoint` None is what the environment says."""

    traces: bool
    metrics: bool
    endpoint: str | None


def target_of(
    environ: Mapping[str, str], *, traces: bool, metrics: bool, endpoint: str | None
) -> Target | None:
    """What is to be sent as the OTEL_* variables have it; None where that is nothing.

    Raises UserError where it cannot be sent.
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    traces = traces and _is_on(environ, "traces")
    metrics = metrics and _is_on(environ, "metrics")
    if not traces and not metrics:
        return None
    if endpoint is None:
        wanted: tuple[tuple[Signal, bool], ...] = (("traces", traces), ("metrics", metrics))
        for signal, on in wanted:
            if on:
                _check_protocol(environ, signal)
    if not _is_installed():
        raise UserError(
            "telemetry needs packages that are not installed; install mcp-tool-gateway[telemetry], "
            "or remove telemetry from gateway.yaml"
        )
    return Target(traces, metrics, None if endpoint is None else endpoint.rstrip("/"))


def _is_on(environ: Mapping[str, str], signal: Signal) -> bool:
    name = f"OTEL_{signal.upper()}_EXPORTER"
    value = environ.get(name, "").strip() or "otlp"
    if value not in ("otlp", "none"):
        raise UserError(f"{name} must be otlp or none: the gateway has no other exporter")
    return value == "otlp"


def _check_protocol(environ: Mapping[str, str], signal: Signal) -> None:
    for name in (f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        value = environ.get(name, "").strip()
        if not value:
            continue
        if value != "http/protobuf":
            raise UserError(
                f"{name} must be http/protobuf, which is all that the gateway speaks; correct it, "
                "or set telemetry.endpoint in gateway.yaml"
            )
        return


def _is_installed() -> bool:
    try:
        return all(
            importlib.util.find_spec(name) is not None
            for name in ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
        )
    except ModuleNotFoundError:
        return False


class Sending:
    """The queue and the thread that empties it. The thread starts when there is something to send:
    to import the SDK takes a quarter of a second, which no client is to wait for."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._queue: deque[Finished | SessionOver] = deque(maxlen=QUEUED)
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._said: set[str] = set()

    def put(self, item: Finished | SessionOver) -> None:
        """Send this some time; where the queue is full, the oldest is lost."""
        self._queue.append(item)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
            self._thread.start()
        elif len(self._queue) == _HURRY_AT:
            self._wake.set()

    def stop(self) -> None:
        """Send what is left, if that takes no longer than a moment."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_STOP_S)

    def _run(self) -> None:
        try:
            from gateway.telemetry.pipeline import Pipeline

            pipeline = Pipeline(self._target)
        except Exception as error:  # noqa: BLE001 - whatever it is, calls go on without telemetry
            self._say_once(f"no telemetry is sent: {type(error).__name__}")
            return
        while not self._stopping:
            self._wake.wait(_EVERY_S)
            self._wake.clear()
            self._drain(pipeline)
        pipeline.close()

    def _drain(self, pipeline: "Pipeline") -> None:
        # No longer than what is there now: a flood must not keep the thread from ending.
        for _ in range(len(self._queue)):
            try:
                pipeline.take(self._queue.popleft())
            except IndexError:  # the loop has thrown it out meanwhile
                return
            except Exception as error:  # noqa: BLE001 - one span less
                self._say_once(f"a span is lost: {type(error).__name__}")

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            sys.stderr.write(f"gateway: {text}\n")
