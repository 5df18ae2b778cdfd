"""What is said beside calls: progress, cancellation, logging, news, questions; both transports."""

import base64
import json
import time
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import over_http, over_stdio
from tests.e2e.http import HttpClient
from tests.e2e.inbox import call, frame, text_of
from tests.e2e.session import ELICITATION, ORIGIN, SAMPLING, Session
from tests.e2e.world import World


@pytest.fixture(scope="module", params=[over_stdio, over_http], ids=["stdio", "http"])
def session(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Session]:
    world = World(tmp_path_factory.mktemp("conversation"))
    world.canary()
    world.usual_agent()
    with request.param(world) as client:
        client.open(sampling={}, elicitation={}, roots={"listChanged": True})
        if isinstance(client, HttpClient):
            client.listen()
        yield Session(world, client)


@pytest.fixture(autouse=True)
def fresh(session: Session) -> None:
    session.client.forget()


class TestProgress:
    @pytest.mark.parametrize("token", ["mine", 0, 1, 10**12])
    def test_tokens_are_the_gateways_own_upstream_and_the_clients_own_back(
        self, session: Session, token: object
    ) -> None:
        answer = session.client.call("progress", {"steps": 3}, _meta={"progressToken": token})
        assert text_of(answer) == "done"
        told = [message for message in session.client.messages if "method" in message]
        assert [message["params"] for message in told] == [
            {"progressToken": token, "progress": number, "x-own": "kept"} for number in range(3)
        ]
        sent = session.world.calls()[-1]
        assert sent["params"]["_meta"]["progressToken"] == sent["id"] != token

    def test_progress_of_nothing_is_dropped_and_recorded(self, session: Session) -> None:
        before = len(session.world.events("frame.dropped"))
        stray = {"method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}}
        tokens: list[object] = [99_999, "1", True, None]
        for token in tokens:
            stray["params"] = {"progressToken": token, "progress": 1}
            answer = session.client.call(
                "ask", {"method": "ping", "leave": True, "then": [stray]}, _meta={"x": 1}
            )
            assert text_of(answer) == "asked"
        assert [message for message in session.client.messages if "method" in message] == []
        wanted = before + len(tokens)
        session.world.wait_for(lambda: len(session.world.events("frame.dropped")) == wanted)


class TestCancellation:
    def test_the_clients_reaches_the_upstream_under_its_own_id(self, session: Session) -> None:
        sent = session.hang("h")
        params = {"requestId": "h", "reason": "enough"}
        session.client.send(frame({"method": "notifications/cancelled", "params": params}))
        session.world.wait_for(
            lambda: session.world.received()[-1]["method"] == "notifications/cancelled"
        )
        told = session.world.received()[-1]["params"]
        assert told == {"requestId": sent["id"], "reason": "enough"}
        assert session.outcome(session.decision("tools/call"))["status"] == "cancelled"
        assert session.client.ask("ping")["result"] == {}
        assert session.client.answers("h") == []

    @pytest.mark.parametrize("identifier", [True, None, "nobody", 0, 1.0, [1]])
    def test_of_nothing_reaches_nobody(self, session: Session, identifier: object) -> None:
        session.hang(1)
        received = session.world.received()
        wrong = frame({"method": "notifications/cancelled", "params": {"requestId": identifier}})
        session.client.send(wrong)
        assert session.client.ask("ping")["result"] == {}
        time.sleep(0.05)
        assert session.world.received() == received
        session.client.send(
            frame({"method": "notifications/cancelled", "params": {"requestId": 1}})
        )
        session.world.wait_for(
            lambda: session.world.received()[-1]["method"] == "notifications/cancelled"
        )

    def test_the_upstreams_withdraws_its_question(self, session: Session) -> None:
        withdrawal = {"method": "notifications/cancelled", "params": {"requestId": "q"}}
        arguments = {
            "id": "q",
            "method": "elicitation/create",
            "params": ELICITATION,
            "leave": True,
            "then": [withdrawal],
        }
        session.client.call("ask", arguments)
        asked = session.decision("elicitation/create")
        assert session.outcome(asked)["status"] == "cancelled"
        told = [message.get("method") for message in session.client.messages]
        # Whether the question was put before it was withdrawn is the upstream's luck.
        assert told.count("elicitation/create") == told.count("notifications/cancelled")


class TestQuestions:
    @pytest.mark.parametrize("identifier", [0, 1, "one", -5])
    def test_roots_under_any_id(self, session: Session, identifier: object) -> None:
        session.client.send(call("r", "ask", {"id": identifier, "method": "roots/list"}))
        question = session.client.told("roots/list")
        assert "_meta" not in question.get("params", {})
        session.reply(question, {"roots": [{"uri": "file:///x"}], "x-own": [1]})
        answer = json.loads(text_of(session.client.answer("r")))
        assert answer == {"result": {"roots": [{"uri": "file:///x"}], "x-own": [1]}}
        decision = session.decision("roots/list")
        assert (decision["decision"], decision["action"]) == ("allow", "roots")
        assert session.outcome(decision)["status"] == "ok"

    def test_elicitation_is_marked_with_its_origin(self, session: Session) -> None:
        arguments = {"method": "elicitation/create", "params": ELICITATION}
        session.client.send(call("e", "ask", arguments))
        question = session.client.told("elicitation/create")
        assert question["params"]["_meta"] == {ORIGIN: "canary"}
        assert question["params"]["message"] == ELICITATION["message"]
        session.reply(question, {"action": "decline"})
        assert json.loads(text_of(session.client.answer("e"))) == {"result": {"action": "decline"}}

    def test_an_origin_that_the_upstream_claims_is_replaced(self, session: Session) -> None:
        params = {**ELICITATION, "_meta": {ORIGIN: "bank", "kept": 1}}
        arguments = {"method": "elicitation/create", "params": params, "leave": True}
        session.client.call("ask", arguments)
        question = session.client.told("elicitation/create")
        assert question["params"]["_meta"] == {ORIGIN: "canary", "kept": 1}
        session.reply(question, {"action": "cancel"})
        # The canary takes whatever answer comes first for that to its next question.
        session.world.wait_for(
            lambda: (
                {"action": "cancel"} in [each.get("result") for each in session.world.received()]
            )
        )

    def test_an_error_goes_back_as_it_is(self, session: Session) -> None:
        session.client.send(call("x", "ask", {"method": "roots/list"}))
        question = session.client.told("roots/list")
        error = {"code": -1, "message": "no", "data": {"k": [1]}}
        session.client.send(frame({"id": question["id"], "error": error}))
        assert json.loads(text_of(session.client.answer("x"))) == {"error": error}
        outcome = session.outcome(session.decision("roots/list"))
        assert (outcome["status"], outcome["error_code"]) == ("error", -1)

    def test_a_second_answer_is_refused(self, session: Session) -> None:
        session.client.send(call("s", "ask", {"method": "roots/list"}))
        question = session.client.told("roots/list")
        session.reply(question, {"roots": []})
        session.client.answer("s")
        received, denied = session.world.received(), len(session.world.decisions(decision="deny"))
        session.reply(question, {"roots": [{"uri": "file:///etc"}]})
        session.world.wait_for(lambda: len(session.world.decisions(decision="deny")) > denied)
        assert session.client.ask("ping")["result"] == {}
        assert session.world.received() == received

    @pytest.mark.parametrize("method", ["sampling/createMessage", "x/unknown", "tasks/get"])
    def test_what_is_not_granted_never_reaches_the_client(
        self, session: Session, method: str
    ) -> None:
        answer = session.client.call("ask", {"method": method, "params": SAMPLING})
        assert json.loads(text_of(answer))["error"]["code"] == -32601
        assert [message for message in session.client.messages if "method" in message] == []
        decision = session.decision(method)
        assert (decision["decision"], decision["line"]) == ("deny", 4)

    def test_pings_are_answered_for_the_client(self, session: Session) -> None:
        assert json.loads(text_of(session.client.call("ask", {"method": "ping"}))) == {"result": {}}
        assert [message for message in session.client.messages if "method" in message] == []

    def test_a_question_with_a_key_twice_is_refused(self, session: Session) -> None:
        twice = b'{"jsonrpc":"2.0","id":5,"method":"roots/list","params":{"a":1,"a":2}}\n'
        done = b'{"jsonrpc":"2.0","id":@ID@,"result":{"content":[]}}\n'
        frames = [base64.b64encode(one).decode() for one in (twice, done)]
        assert session.client.call("raw", {"frames": frames})["result"] == {"content": []}
        assert [message for message in session.client.messages if "method" in message] == []


class TestNews:
    def test_log_messages_arrive(self, session: Session) -> None:
        assert text_of(session.client.call("log")) == "logged"
        told = session.client.told("notifications/message")
        assert told["params"] == {"level": "info", "data": "hi"}

    def test_changed_tools_are_told_and_decided_anew(self, session: Session) -> None:
        offered = session.world.calls  # keeps the shared canary's tools at the end
        usual = ["echo", "raw", "ask", "log", "changed", "progress", "hang", "noise"]
        assert "does not offer" in text_of(session.client.call("absent"))
        session.client.call("changed", {"tools": [*usual, "absent"]})
        assert session.client.told("notifications/tools/list_changed")
        assert text_of(session.client.call("absent")) == "called absent"
        session.client.call("changed", {"tools": usual})
        assert text_of(session.client.call("echo", {"text": "x"})) == "x"
        names = [tool["name"] for tool in session.client.ask("tools/list")["result"]["tools"]]
        assert sorted(names) == sorted(usual)
        before = len(offered())
        assert "does not offer" in text_of(session.client.call("absent"))
        assert len(offered()) == before

    @pytest.mark.parametrize(
        "method", ["notifications/resources/list_changed", "notifications/prompts/list_changed"]
    )
    def test_news_of_what_is_not_granted_stay_out(self, session: Session, method: str) -> None:
        session.client.call("changed", {"method": method})
        assert [message for message in session.client.messages if "method" in message] == []

    def test_unknown_news_stay_out_and_are_recorded(self, session: Session) -> None:
        before = len(session.world.events("frame.dropped"))
        session.client.call("changed", {"method": "notifications/made/up"})
        assert [message for message in session.client.messages if "method" in message] == []
        # An event is written in the turn after what it tells of.
        session.world.wait_for(lambda: len(session.world.events("frame.dropped")) == before + 1)

    def test_changed_roots_reach_the_upstream(self, session: Session) -> None:
        session.client.send(frame({"method": "notifications/roots/list_changed"}))
        session.world.wait_for(
            lambda: session.world.received()[-1]["method"] == "notifications/roots/list_changed"
        )
        assert (
            session.outcome(session.decision("notifications/roots/list_changed"))["status"] == "ok"
        )
