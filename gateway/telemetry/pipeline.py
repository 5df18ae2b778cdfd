"""Spans and metrics as OpenTelemetry's SDK has them. Imported by the sending thread alone."""

import logging
import sys
import time
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import Histogram
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from gateway import __version__
from gateway.telemetry.finished import Finished, SessionOver, Spans, wall_clock
from gateway.telemetry.sending import Target

SCOPE = "mcp-tool-gateway"
BUCKETS_S: Sequence[float] = (
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
    *(10.0, 30.0, 60.0, 120.0, 300.0),
)
_COMPLAIN_EVERY_S = 600.0


class Pipeline:
    """Takes what is over, and hands it to the SDK, which sends it from threads of its own."""

    def __init__(self, target: Target) -> None:
        _be_quiet()
        named = Resource.create({"service.name": SCOPE, "service.version": __version__})
        # What the environment says of this service comes before our own words.
        resource = named.merge(OTELResourceDetector().detect())
        self._resource = resource
        self._scope = InstrumentationScope(SCOPE, __version__)
        self._spans: BatchSpanProcessor | None = None
        self._meters: MeterProvider | None = None
        if target.traces:
            self._spans = BatchSpanProcessor(
                OTLPSpanExporter(endpoint=_endpoint(target, "traces")),
            )
        if target.metrics:
            reader = PeriodicExportingMetricReader(
                OTLPMetricExporter(endpoint=_endpoint(target, "metrics"))
            )
            self._meters = MeterProvider(
                [reader], resource, AlwaysOffExemplarFilter(), shutdown_on_exit=False
            )
            meter = self._meters.get_meter(SCOPE, __version__)

            def histogram(name: str, about: str) -> Histogram:
                return meter.create_histogram(
                    name, "s", about, explicit_bucket_boundaries_advisory=BUCKETS_S
                )

            self._server = histogram(
                "mcp.server.operation.duration", "From a request to its answer by the gateway."
            )
            self._client = histogram(
                "mcp.client.operation.duration", "From a request's leaving for its upstream."
            )
            self._server_session = histogram(
                "mcp.server.session.duration", "How long a session of a client lasted."
            )
            self._client_session = histogram(
                "mcp.client.session.duration", "How long a session with an upstream lasted."
            )

    def take(self, over: Finished | SessionOver) -> None:
        """Count it, and make spans of it."""
        if isinstance(over, SessionOver):
            if self._meters is not None and over.upstream:
                self._client_session.record(over.duration_s, {"gateway.upstream": over.upstream})
            elif self._meters is not None:
                self._server_session.record(over.duration_s)
            return
        attributes = over.attributes()
        if self._meters is not None:
            began = over.begun.started_ns
            self._server.record(max(over.ended_ns - began, 0) / 1e9, attributes)
            if over.sent_ns:
                self._client.record(max(over.ended_ns - over.sent_ns, 0) / 1e9, attributes)
        if self._spans is not None and over.spans is not None and over.spans.sampled:
            self._make_spans(self._spans, over, over.spans)

    def close(self) -> None:
        """Send what is left, as long as that takes."""
        if self._spans is not None:
            self._spans.force_flush()
        if self._meters is not None:
            self._meters.shutdown()

    def _make_spans(self, processor: BatchSpanProcessor, over: Finished, spans: Spans) -> None:
        attributes, clock = over.attributes(), wall_clock()
        state = TraceState.from_header([spans.parent.state]) if spans.parent is not None else None

        def context(span_id: str, *, remote: bool = False) -> SpanContext:
            return SpanContext(
                int(spans.trace_id, 16), int(span_id, 16), remote, TraceFlags(1), state
            )

        error = over.error_type
        own = context(spans.own)
        parent = None if spans.parent is None else context(spans.parent.span_id, remote=True)

        def end(
            span: SpanContext,
            above: SpanContext | None,
            kind: SpanKind,
            start_ns: int,
            told: dict[str, str | int | bool],
        ) -> None:
            processor.on_end(
                ReadableSpan(
                    over.name,
                    span,
                    above,
                    self._resource,
                    told,
                    kind=kind,
                    status=Status(StatusCode.UNSET if error is None else StatusCode.ERROR),
                    start_time=start_ns + clock,
                    end_time=max(over.ended_ns, start_ns) + clock,
                    instrumentation_scope=self._scope,
                )
            )

        if over.sent_ns:
            end(context(spans.client), own, SpanKind.CLIENT, over.sent_ns, attributes)
        details = attributes | over.details()
        end(own, parent, SpanKind.SERVER, over.begun.started_ns, details)


def _endpoint(target: Target, signal: str) -> str | None:
    return None if target.endpoint is None else f"{target.endpoint}/v1/{signal}"


class _Complaints(logging.Handler):
    """Tells that telemetry is lost, seldom, and in words that can hold no secret."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._next_s = float("-inf")

    def emit(self, record: logging.LogRecord) -> None:
        """Say that something went wrong."""
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _COMPLAIN_EVERY_S
            sys.stderr.write("gateway: telemetry cannot be sent and is lost; calls go on\n")


def _be_quiet() -> None:
    """What the SDK would log may name endpoints with what is secret in them."""
    for name in ("opentelemetry", "urllib3", "requests"):
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.handlers = [_Complaints() if name == "opentelemetry" else logging.NullHandler()]
