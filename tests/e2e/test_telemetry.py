"""Spans and metrics of calls through a real gateway, at a real collector or none."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.wire.trace import trace_context
from tests.e2e.conftest import Open
from tests.e2e.inbox import call, text_of
from tests.e2e.stdio import StdioClient
from tests.e2e.world import World
from tests.telemetry.collector import Collector, attributes, collecting

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
SERVER, CLIENT = 2, 3
ERROR = 2


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest.fixture
def traced(world: World, collector: Collector) -> World:
    world.canary()
    world.usual_agent()
    world.settings["telemetry"] = {"traces": True, "metrics": True, "endpoint": collector.url}
    world.env |= {"OTEL_EXPORTER_OTLP_HEADERS": "x-team=red", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    return world


def span(collector: Collector, name: str, kind: int = SERVER) -> Any:
    (found,) = [each for each in collector.spans if (each.name, each.kind) == (name, kind)]
    return found


def test_calls_arrive_as_spans_with_the_names_of_the_conventions(
    traced: World, connect: Open, collector: Collector
) -> None:
    with connect(traced) as client:
        client.open()
        client.call("echo", {"text": "a secret"}, _meta={"traceparent": PARENT, "vendor/x": 1})
        client.call("add", {"a": -1})
        client.call("made_up")
        traced.wait_for(lambda: len(collector.spans) >= 5)
    own, sent = span(collector, "tools/call echo"), span(collector, "tools/call echo", CLIENT)
    assert own.trace_id.hex() == sent.trace_id.hex() == TRACE
    assert own.parent_span_id.hex() == SPAN
    assert sent.parent_span_id == own.span_id
    assert 0 < own.start_time_unix_nano <= sent.start_time_unix_nano <= sent.end_time_unix_nano
    told = attributes(own.attributes)
    assert told["mcp.method.name"] == "tools/call"
    assert told["gen_ai.tool.name"] == "echo"
    assert told["gen_ai.operation.name"] == "execute_tool"
    assert told["mcp.protocol.version"] == "2025-11-25"
    assert told["jsonrpc.request.id"] == "ask-2"
    assert told["network.transport"] in ("pipe", "tcp")
    assert told["gateway.agent"] == "tester"
    assert told["gateway.tool.id"] == "mcp__canary__echo"
    assert told["gateway.decision"] == "allow"
    assert "error.type" not in told
    failed = span(collector, "tools/call add")
    assert failed.status.code == ERROR
    assert attributes(failed.attributes)["error.type"] == "tool_error"
    refused = span(collector, "tools/call")
    assert attributes(refused.attributes)["error.type"] == "denied"
    assert attributes(refused.attributes)["gen_ai.tool.name"] == "other"
    assert collector.resource["service.name"] == "mcp-tool-gateway"
    sent_all = b"".join(each.SerializeToString() for each in collector.traces)
    assert b"a secret" not in sent_all
    assert b"made_up" not in sent_all
    assert {each.get("x-team") for each in collector.headers} == {"red"}
    (decision,) = traced.decisions(tool="mcp__canary__echo")
    assert decision["trace"] == PARENT
    assert told["gateway.call.id"] == decision["call"]
    # The record of a call whose client knows no trace names the gateway's own.
    (other,) = traced.decisions(tool="mcp__canary__add")
    assert other["trace"] == f"00-{failed.trace_id.hex()}-{failed.span_id.hex()}-01"


def test_the_context_goes_on_to_the_upstream(
    traced: World, connect: Open, collector: Collector
) -> None:
    hostile = {"traceparent": f"{PARENT}\r\nX: y", "tracestate": "a=\n", "baggage": "k=\x1b"}
    good = {"traceparent": PARENT, "tracestate": "rojo=1", "baggage": "k=v", "vendor/x": [1]}
    with connect(traced) as client:
        client.open()
        client.call("echo", _meta=good)
        client.call("add", _meta={**hostile, "vendor/x": [1]})
        client.call("log")
        traced.wait_for(lambda: len(collector.spans) >= 6)
    first, second, third = (each["params"]["_meta"] for each in traced.calls())
    sent = span(collector, "tools/call echo", CLIENT)
    assert first == {**good, "traceparent": f"00-{TRACE}-{sent.span_id.hex()}-01"}
    assert set(second) == {"traceparent", "vendor/x"}
    for meta in (second, third):
        context = trace_context(meta)
        assert context is not None
        assert context.trace_id != TRACE
    assert [each.get("trace") for each in traced.decisions(tool="mcp__canary__add")] != [
        hostile["traceparent"]
    ]


def test_without_telemetry_meta_passes_as_it_is(world: World, connect: Open) -> None:
    world.canary()
    world.usual_agent()
    meta = {"traceparent": "what ever", "tracestate": 7, "vendor/x": [1]}
    with connect(world) as client:
        client.open()
        client.call("echo", _meta=meta)
        client.call("echo", _meta={"traceparent": PARENT})
    assert [each["params"]["_meta"] for each in world.calls()] == [meta, {"traceparent": PARENT}]
    told = [each.get("trace") for each in world.decisions(method="tools/call")]
    assert told == [None, PARENT]


def test_metrics_arrive_when_the_gateway_ends(traced: World, collector: Collector) -> None:
    with traced.connect() as client:
        client.open()
        for _ in range(3):
            client.call("echo")
        client.call("add", {"a": -1})
        traced.wait_for(lambda: collector.spans)  # what sends is ready
        assert client.close() == 0
    points = collector.points("mcp.server.operation.duration")
    counts = {
        (told["gen_ai.tool.name"], told.get("error.type")): count
        for told, count in points
        if told["mcp.method.name"] == "tools/call"
    }
    assert counts == {("echo", None): 3, ("add", "tool_error"): 1}
    assert sum(count for _, count in collector.points("mcp.client.operation.duration")) >= 4
    assert collector.points("mcp.server.session.duration")
    assert not any("gateway.call.id" in told for told, _ in points)


def test_arguments_and_results_are_told_where_that_is_asked_for(
    traced: World, collector: Collector
) -> None:
    traced.settings["telemetry"] |= {"arguments": True, "results": True, "metrics": False}
    with traced.connect() as client:
        client.open()
        client.call("echo", {"text": "x" * 20_000})
        traced.wait_for(lambda: len(collector.spans) >= 2)
    told = attributes(span(collector, "tools/call echo").attributes)
    assert str(told["gen_ai.tool.call.arguments"]).startswith('{"text":"xxx')
    assert len(str(told["gen_ai.tool.call.arguments"])) == 8_192
    assert str(told["gen_ai.tool.call.result"]).startswith('{"content": [{"type": "text"')
    assert collector.metrics == []


def test_what_is_not_sampled_is_not_sent_and_says_so_upstream(
    traced: World, collector: Collector
) -> None:
    traced.env["OTEL_TRACES_SAMPLER"] = "parentbased_always_off"
    with traced.connect() as client:
        client.open()
        client.call("add")
        client.call("echo", _meta={"traceparent": PARENT})
        traced.wait_for(lambda: collector.spans)
        assert client.close() == 0
    assert {each.name for each in collector.spans} == {"tools/call echo"}
    first, second = (each["params"]["_meta"]["traceparent"] for each in traced.calls())
    assert first.endswith("-00")
    assert second.endswith("-01")


def test_nothing_is_lost_of_calls_and_log_where_nobody_listens(world: World, connect: Open) -> None:
    with socket.socket() as taken:  # bound, and never answering
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        world.canary()
        world.usual_agent()
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        world.settings["telemetry"] = {"traces": True, "metrics": True, "endpoint": endpoint}
        world.env |= {"OTEL_BSP_SCHEDULE_DELAY": "10", "OTEL_METRIC_EXPORT_INTERVAL": "50"}
        with connect(world) as client:
            client.open()
            client.send(*(call(f"c{number}", "echo", {"text": "x"}) for number in range(200)))
            for number in range(200):
                assert text_of(client.answer(f"c{number}")) == "x"
    assert len(world.decisions(method="tools/call")) == 200
    assert len(world.records(kind="outcome", status="ok")) >= 200


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"OTEL_TRACES_SAMPLER": "sometimes"}, "OTEL_TRACES_SAMPLER is none of"),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"}, "from 0 to 1"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER must be otlp or none"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "must be http/protobuf"),
    ],
)
def test_what_cannot_be_done_is_told_at_the_start(
    traced: World, variables: dict[str, str], told: str
) -> None:
    del traced.settings["telemetry"]["endpoint"]
    traced.env |= variables
    done = traced.gateway("connect", "canary")
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_packages_are_named(traced: World) -> None:
    hidden = (
        "import sys\n"
        "sys.modules['opentelemetry.sdk'] = None\n"
        "from gateway.cli.main import run\n"
        "sys.exit(run(sys.argv[1:]))\n"
    )
    argv = traced.argv("connect", "canary", program=("-c", hidden))
    with StdioClient(argv, env=traced.env, cwd=traced.root) as client:
        assert client.close() == 2
        assert "install mcp-tool-gateway[telemetry]" in client.stderr


def test_the_environment_alone_sends_nothing(world: World, collector: Collector) -> None:
    world.canary()
    world.usual_agent()
    world.env |= {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_TRACES_EXPORTER": "otlp"}
    with world.connect() as client:
        client.open()
        client.call("echo")
    assert collector.traces == collector.metrics == []


def test_a_project_sends_nothing_that_nobody_accepted(traced: World, collector: Collector) -> None:
    settings = traced.settings.pop("telemetry")
    traced.write()  # accepted without telemetry
    traced.accepting = False
    traced.settings["telemetry"] = settings
    with traced.connect() as client:
        client.open()
        client.call("echo")
        assert client.close() == 0
    assert collector.traces == []
    found = [json.loads(line) for line in traced.gateway("check", "--json").stdout.splitlines()]
    assert any("telemetry stays as it was accepted" in each.get("message", "") for each in found)
