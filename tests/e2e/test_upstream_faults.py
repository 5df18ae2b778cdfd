"""Upstreams that crash, hang, start late or not at all: only their own calls suffer."""

import json
import signal
import time

import pytest

from tests.e2e.conftest import Open, over_http, over_stdio
from tests.e2e.inbox import call, frame, text_of
from tests.e2e.world import World


class TestCrash:
    @pytest.mark.parametrize(
        ("connect", "arguments", "told"),
        [
            (over_stdio, {"code": 3, "stderr": "out of cheese"}, "exited with status 3"),
            (over_stdio, {"code": 0}, "exited with status 0"),
            (over_http, {"signal": int(signal.SIGSEGV)}, "signal 11"),
        ],
        ids=["status", "zero", "signal-http"],
    )
    def test_the_call_fails_at_once_and_the_next_one_works(
        self, world: World, connect: Open, arguments: dict[str, object], told: str
    ) -> None:
        world.canary()
        world.usual_agent()
        with connect(world) as client:
            client.open()
            client.call("echo")
            started = time.monotonic()
            answer = client.call("crash", arguments)
            assert time.monotonic() - started < 1.0
            assert "'canary'" in answer["error"]["message"]
            assert told in answer["error"]["message"]
            if "stderr" in arguments:
                assert "out of cheese" in answer["error"]["message"]
            assert text_of(client.call("echo", {"text": "again"})) == "again"
        (outcome,) = world.records(kind="outcome", status="upstream_lost")
        assert outcome["error_code"] == 502
        assert len(world.events("upstream.exited")) == 1
        assert [message["params"]["name"] for message in world.calls()] == ["echo", "crash", "echo"]

    def test_all_calls_under_way_fail_and_none_is_sent_again(self, world: World) -> None:
        world.canary()
        world.usual_agent()
        with world.connect() as client:
            client.open()
            client.send(*(call(number, "hang") for number in range(20)), call("last", "crash"))
            for number in (*range(20), "last"):
                assert "'canary'" in client.answer(number)["error"]["message"]
            client.call("echo")
        assert len(world.calls()) == 22
        assert len(world.records(kind="outcome", status="upstream_lost")) == 21

    def test_the_question_of_an_upstream_that_dies_is_withdrawn(self, world: World) -> None:
        world.canary()
        world.usual_agent()
        with world.connect() as client:
            client.open(roots={})
            client.call("ask", {"method": "roots/list", "leave": True})
            question = client.told("roots/list")
            client.call("crash")
            withdrawn = client.told("notifications/cancelled")
            assert withdrawn["params"]["requestId"] == question["id"]
            client.send(frame({"id": question["id"], "result": {"roots": []}}))
            assert client.ask("ping")["result"] == {}
        assert world.decisions(decision="deny") == []

    def test_others_go_on(self, world: World) -> None:
        world.canary("one")
        world.canary("two")
        world.usual_agent("one", "two")
        with world.connect("") as client:
            client.open()
            client.send(call(1, "one__crash"), call(2, "two__echo", {"text": "alive"}))
            assert "'one'" in client.answer(1)["error"]["message"]
            assert text_of(client.answer(2)) == "alive"


class TestStart:
    def test_one_that_exits_at_once_ends_connect_with_its_last_words(self, world: World) -> None:
        world.canary(exit_with=9, stderr="line\n" * 30 + "no database\x1b[31m here\n")
        world.usual_agent()
        with world.connect() as client:
            answer = client.ask("initialize", client_params())
            assert "'canary'" in answer["error"]["message"]
            assert client.process.wait(10) == 2
            assert client.close() == 2
            assert "no database\\x1b[31m here" in client.stderr
            assert "exited with status 9" in client.stderr
            assert "Traceback" not in client.stderr
        assert [message.get("method") for message in world.received()] == []

    def test_a_program_that_is_not_there_ends_connect_with_its_name(self, world: World) -> None:
        world.canary(entry={"command": "no-such-program-anywhere"})
        world.usual_agent()
        with world.connect() as client:
            client.ask("initialize", client_params())
            assert client.close() == 2
            assert "no-such-program-anywhere" in client.stderr

    def test_a_slow_one_is_not_waited_for_beyond_its_time(self, world: World) -> None:
        world.canary(start_delay_s=2.0, entry={"start_timeout_s": 0.3})
        world.usual_agent()
        with world.connect() as client:
            started = time.monotonic()
            answer = client.open()
            assert time.monotonic() - started < 1.9
            assert answer["result"]["capabilities"] == {"tools": {"listChanged": True}}
            refused = client.call("echo")
            assert "still starting" in refused["error"]["message"]
            world.wait_for(lambda: world.events("upstream.ready"))
            assert text_of(client.call("echo", {"text": "x"})) == "x"
        assert len(world.calls()) == 1

    def test_the_handshake_is_kept_for_the_next_start(self, world: World) -> None:
        world.canary()
        world.usual_agent()
        with world.connect() as client:
            first = client.open()["result"]
        world.script(start_delay_s=1.0)
        with world.connect() as client:
            assert client.open()["result"] == first
            assert world.events("upstream.ready")[1:] == []
            assert text_of(client.call("echo", {"text": "waited"})) == "waited"

    def test_another_entry_has_another_handshake(self, world: World) -> None:
        world.canary()
        world.usual_agent()
        with world.connect() as client:
            assert "with care" in client.open()["result"]["instructions"]
        world.canary(initialize={"instructions": "new"}, entry={"args": [*canary_args(world), "x"]})
        with world.connect() as client:
            assert client.open()["result"]["instructions"] == "new"

    def test_aggregate_does_not_wait_for_the_slowest(self, world: World) -> None:
        world.canary("fast")
        world.canary("slow", start_delay_s=1.5)
        world.usual_agent("fast", "slow")
        with world.connect("") as client:
            client.open()
            assert text_of(client.call("fast__echo", {"text": "x"})) == "x"
            assert {event["upstream"] for event in world.events("upstream.ready")} == {"fast"}
            assert text_of(client.call("slow__echo", {"text": "y"})) == "y"

    def test_one_that_keeps_failing_is_given_up_and_tried_again_on_demand(
        self, world: World
    ) -> None:
        world.canary()
        world.usual_agent()
        with world.connect() as client:
            client.open()
        world.script(exit_with=1)
        with world.connect() as client:
            client.open()
            assert "'canary'" in client.call("echo")["error"]["message"]
            world.script()
            assert text_of(client.call("echo", {"text": "back"})) == "back"

    @pytest.mark.parametrize(
        "reply",
        [
            {"protocol": "1999-01-01"},
            {"initialize": {"protocolVersion": 7}},
            {"initialize": {"capabilities": "x" * 10, "deep": json.loads("[" * 90 + "]" * 90)}},
            {"crash_on": ["initialize"]},
        ],
        ids=["revision", "no-text", "deep", "crash"],
    )
    def test_an_unusable_handshake_is_told(self, world: World, reply: dict[str, object]) -> None:
        world.canary(**reply)
        world.usual_agent()
        with world.connect() as client:
            answer = client.ask("initialize", client_params())
            assert "'canary'" in answer["error"]["message"]
            assert client.close() == 2


def client_params() -> dict[str, object]:
    return {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "raw", "version": "1"},
    }


def canary_args(world: World) -> list[str]:
    args: list[str] = world.upstreams["canary"]["args"]
    return args


class TestHang:
    def test_a_call_that_takes_too_long_is_cancelled_and_told(self, world: World) -> None:
        world.canary(entry={"call_timeout_s": 0.3})
        world.usual_agent()
        with world.connect() as client:
            client.open()
            answer = client.call("hang")
            assert answer["error"]["code"] == 504
            assert "0.3 s" in answer["error"]["message"]
            assert text_of(client.call("echo", {"text": "x"})) == "x"
        assert [message["method"] for message in world.received()][-3:] == [
            *("tools/call", "notifications/cancelled", "tools/call")
        ]
        assert [record["status"] for record in world.records(kind="outcome")] == ["timeout", "ok"]

    def test_a_client_that_leaves_ends_the_call(self, world: World) -> None:
        world.canary()
        world.usual_agent()
        with world.connect() as client:
            client.open()
            client.send(call(1, "hang"))
            world.wait_for(world.calls)
            client.process.send_signal(signal.SIGTERM)
            assert client.close() == 0
        (outcome,) = world.records(kind="outcome")
        assert outcome["status"] == "unanswered"
        (closed,) = world.events("session.closed")
        assert closed["data"]["reason"] == "signal SIGTERM"
