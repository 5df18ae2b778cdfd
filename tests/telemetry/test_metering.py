"""What is counted, under which names, and that it can be scraped whatever they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.values import Action, Decision
from gateway.telemetry.exposition import exposition, family
from gateway.telemetry.metering import BUCKETS_S, Metering
from gateway.telemetry.watch import Begun, Ended
from gateway.wire.methods import ActionKind
from tests.policy.ruling import ruled
from tests.telemetry.scraped import Sample, parse, value


def begun(
    call: str = "c",
    *,
    tool: str = "query",
    effect: str = "allow",
    rule: str = "declared tools",
    definition: str = "d" * 64,
    enforced: bool = True,
    upstream: str = "db",
    kind: ActionKind = "tool",
    method: str = "tools/call",
) -> Begun:
    decision = Decision(
        effect,  # type: ignore[arg-type] # one of the three in every test
        rule,
        "because",
        tool_id=f"mcp__{upstream}__{tool}",
        definition=definition,
        enforced=enforced,
    )
    action = Action(kind, method, upstream, tool)
    return Begun(call, 0, "s", "stdio", None, "a", action, decision, {})


@pytest.fixture
def metering() -> Metering:
    return Metering(ruled)


def scraped(metering: Metering) -> list[Sample]:
    return parse(exposition(metering, ()).decode())


def test_a_call_counts_when_it_has_ended_and_is_in_flight_before(metering: Metering) -> None:
    metering.decided(begun())
    assert value(scraped(metering), "gateway_calls_in_flight", upstream="db") == 1
    metering.ended(Ended("c", "ok", 3_000))
    samples = scraped(metering)
    assert value(samples, "gateway_calls_in_flight") == 0
    (call,) = [each for each in samples if each.name == "gateway_calls_total"]
    assert call.labels == {
        "upstream": "db",
        "method": "tools/call",
        "tool": "mcp__db__query",
        "decision": "allow",
        "status": "ok",
    }
    assert call.value == 1
    bucket = "gateway_call_duration_seconds_bucket"
    assert value(samples, bucket, upstream="db", le="0.005") == 1
    assert value(samples, "gateway_call_duration_seconds_sum", upstream="db") == 0.003


def test_a_refused_call_ends_at_once_and_one_that_is_observed_does_not(metering: Metering) -> None:
    metering.decided(begun("c1", effect="deny", rule="few"))
    metering.decided(begun("c2", effect="deny", rule="few", enforced=False))
    samples = scraped(metering)
    assert value(samples, "gateway_calls_total", decision="deny", status="refused") == 1
    assert value(samples, "gateway_refusals_total", rule="few", enforced="true") == 1
    assert value(samples, "gateway_refusals_total", rule="few", enforced="false") == 1
    assert value(samples, "gateway_calls_in_flight") == 1
    metering.ended(Ended("c2", "tool_error", 1))
    ended = value(
        scraped(metering), "gateway_calls_total", decision="observed", status="tool_error"
    )
    assert ended == 1


def test_the_end_of_an_unknown_call_counts_nothing(metering: Metering) -> None:
    metering.ended(Ended("other", "ok", 1))
    assert value(scraped(metering), "gateway_calls_total") == 0


def test_only_tools_that_there_are_have_a_name(metering: Metering) -> None:
    metering.decided(begun("1", tool="made_up", effect="deny", definition=""))
    metering.decided(begun("2", tool="query", effect="deny"))
    metering.decided(begun("3", tool="query", effect="deny", definition=""))
    metering.decided(begun("4", kind="unknown", method="made/up", effect="deny"))
    tools = {
        (each.labels["method"], each.labels["tool"]): each.value
        for each in scraped(metering)
        if each.name == "gateway_calls_total"
    }
    assert tools == {
        ("tools/call", "other"): 1,
        ("tools/call", "mcp__db__query"): 2,
        ("other", ""): 1,
    }


def test_what_is_counted_stays_bounded_whatever_an_upstream_offers(
    metering: Metering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.telemetry.names.MAX_TOOLS", 10)
    monkeypatch.setattr("gateway.telemetry.metering.MAX_SERIES", 15)
    for number in range(30):
        metering.decided(begun(str(number), tool=f"t{number}", effect="deny"))
    assert len({each.tool for each in metering.calls}) == 11
    for number in range(30):
        metering.decided(begun(str(number), rule=f"r{number}", effect="deny", method=f"m{number}"))
    assert len(metering.calls) <= 16
    assert len(metering.refusals) == 15
    assert sum(metering.calls.values()) == 60


def test_upstreams_are_up_until_they_are_lost(metering: Metering) -> None:
    metering.event("upstream.ready", "s1", "db")
    metering.event("upstream.ready", "s2", "db")
    metering.event("upstream.ready", None, "shared")
    metering.event("upstream.exited", "s2", "db")
    metering.event("upstream.stopped", None, "shared")
    metering.event("session.opened", "s1", None)
    samples = scraped(metering)
    assert value(samples, "gateway_upstream_up", upstream="db") == 0
    assert value(samples, "gateway_upstream_up", upstream="shared") == 1
    assert value(samples, "gateway_upstream_connections", upstream="db") == 1
    assert value(samples, "gateway_upstream_connections", upstream="shared") == 0
    assert value(samples, "gateway_upstream_events_total", upstream="db", event="ready") == 2
    assert value(samples, "gateway_sessions") == 1


@given(st.text(), st.text(), st.integers(0, 10**12))
def test_whatever_names_are_it_can_be_scraped(upstream: str, rule: str, duration_us: int) -> None:
    metering = Metering(ruled)
    metering.decided(begun("1", upstream=upstream, effect="deny", rule=rule))
    metering.decided(begun("2", upstream=upstream))
    metering.ended(Ended("2", "ok", duration_us))
    samples = scraped(metering)
    shown = upstream.encode("utf-8", "replace").decode()
    assert value(samples, "gateway_calls_total", upstream=shown, status="ok") == 1
    assert value(samples, "gateway_call_duration_seconds_count", upstream=shown) == 1


def test_a_family_without_samples_is_left_out() -> None:
    assert family("x", "gauge", "X.", ()) == ""
    assert len(BUCKETS_S) == len(set(BUCKETS_S))
