"""`/metrics` of a real `gateway serve`: what it says, and to whom."""

import json
import urllib.error
import urllib.request

import pytest

from gateway.identity.tokens import create_token
from tests.e2e.http import HttpClient
from tests.e2e.world import ServedGateway, World
from tests.telemetry.scraped import Sample, parse, value


def scrape(served: ServedGateway, token: str | None = None) -> list[Sample]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"{served.base}/metrics", headers=headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        return parse(response.read().decode())


def status(served: ServedGateway, token: str | None = None) -> int:
    try:
        scrape(served, token)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    return 200


@pytest.fixture
def counted(world: World) -> World:
    world.canary()
    world.usual_agent()
    rule = {"name": "few", "effect": "allow-only-if", "tools": "mcp__canary__echo"}
    limited = {**rule, "limits": {"calls": "2/hour", "in_flight": 5}}
    (world.root / "few.yaml").write_text(json.dumps({"rules": [limited]}))
    world.settings["policies"] = "few.yaml"
    return world


def test_calls_refusals_upstreams_and_limits_are_told(counted: World) -> None:
    with counted.serve() as served:
        with HttpClient(served.url()) as client:
            client.open()
            for _ in range(3):
                client.call("echo")
            client.call("add", {"a": -1})
            client.call("made_up_by_a_model")
            samples = scrape(served)
            assert value(samples, "gateway_sessions") == 1
            assert value(samples, "gateway_upstream_connections", upstream="canary") == 1
        tool = "mcp__canary__echo"
        calls = "gateway_calls_total"
        assert value(samples, calls, tool=tool, decision="allow", status="ok") == 2
        assert value(samples, calls, tool=tool, decision="deny", status="refused") == 1
        assert value(samples, calls, tool="mcp__canary__add", status="tool_error") == 1
        assert value(samples, calls, tool="other", decision="deny") == 1
        assert value(samples, "gateway_refusals_total", rule="few", enforced="true") == 1
        assert value(samples, "gateway_refusals_total", rule="not declared") == 1
        assert value(samples, "gateway_call_duration_seconds_count", upstream="canary") >= 3
        assert value(samples, "gateway_calls_in_flight") == 0
        assert value(samples, "gateway_upstream_up", upstream="canary") == 1
        assert value(samples, "gateway_audit_writable") == 1
        assert value(samples, "gateway_configuration_in_force") == 1
        assert value(samples, "gateway_limit", rule="few", limit="calls") == 2
        assert value(samples, "gateway_limit_used", rule="few", limit="calls", agent="tester") == 2
        assert value(samples, "gateway_limit_used", rule="few", limit="in_flight") == 0
        assert not any("made_up" in text for each in samples for text in each.labels.values())
        counted.wait_for(lambda: value(scrape(served), "gateway_sessions") == 0)


def test_this_host_may_read_and_bearers_of_their_own_token(counted: World) -> None:
    reader = create_token(counted.tokens, ("@metrics",), label="", now_s=0, expires_s=None)[1]
    with counted.serve() as served:
        assert status(served) == 200
        assert status(served, reader) == 200
        assert status(served, counted.token()) == 403
        assert status(served, "no-token") == 401
        with HttpClient(served.url(), reader) as client:
            client.open()
            refused = client.call("echo")["result"]
            assert refused["isError"]
            assert "'@metrics' is not defined" in refused["content"][0]["text"]
    assert counted.calls() == []


@pytest.mark.parametrize(("setting", "code"), [("token", 401), ("off", 404), ("anyone", 200)])
def test_who_may_read_is_a_setting(counted: World, setting: str, code: int) -> None:
    counted.settings["http"] = {"tokens": str(counted.tokens), "metrics": setting}
    with counted.serve() as served:
        assert status(served) == code


def test_off_loopback_a_token_is_needed(counted: World) -> None:
    counted.settings["http"] = {
        "tokens": str(counted.tokens),
        "allowed_hosts": ["gateway.example", "127.0.0.1"],
    }
    done = counted.gateway("token", "create", "@metrics")
    assert done.returncode == 0, done.stderr
    with counted.serve() as served:
        assert status(served) == 401
        assert status(served, done.stdout.strip()) == 200
