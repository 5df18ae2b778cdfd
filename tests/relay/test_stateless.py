"""A client of a stateless revision: its envelopes, headers, answers, tasks and log levels."""

import pytest

from tests.relay.bench import META, REVISION, Bench, enveloped, until
from tests.relay.conftest import Run

WHOLE = ("mcp__up",)
DONE = {"content": [{"type": "text", "text": "done"}]}
VERSION, CAPABILITIES = f"{META}protocolVersion", f"{META}clientCapabilities"
ERAS = pytest.mark.parametrize("era", ["handshake", "stateless"])


class TestEnvelope:
    @pytest.mark.parametrize(
        ("meta", "code"),
        [
            (None, -32602),
            (7, -32602),
            ({}, -32602),
            ({VERSION: REVISION}, -32602),
            ({CAPABILITIES: {}}, -32602),
            ({VERSION: 7, CAPABILITIES: {}}, -32602),
            ({VERSION: REVISION, CAPABILITIES: []}, -32602),
            ({VERSION: "2031-01-01", CAPABILITIES: {}}, -32022),
            ({VERSION: "2025-11-25", CAPABILITIES: {}}, -32022),
        ],
    )
    def test_one_that_breaks_the_rules_is_refused_by_them(
        self, run: Run, meta: object, code: int
    ) -> None:
        async def scenario(bench: Bench) -> None:
            bench.ask(0, "server/discover")
            await bench.answered(0)
            params = {} if meta is None else {"_meta": meta}
            bench.send({"id": 1, "method": "tools/call", "params": {"name": "echo", **params}})
            error = (await bench.answered(1))["error"]
            assert error["code"] == code
            if code == -32022:
                assert error["data"]["supported"] == [REVISION]
                assert error["data"]["requested"] == meta[VERSION]  # type: ignore[index]  # a dict
            (refused,) = bench.records(kind="decision")
            assert (refused["decision"], refused["rule"]) == ("deny", "protocol")
            assert bench.upstream.named("tools/call") == []

        run(scenario)

    def test_a_client_whose_revision_is_not_known_may_still_shake_hands(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            bench.ask("probe", "server/discover", revision="2031-01-01")
            assert (await bench.answered("probe"))["error"]["code"] == -32022
            bench.client.got.clear()
            await bench.start()
            bench.call(1)
            await bench.finish(DONE)
            assert (await bench.answered(1))["result"] == DONE

        run(scenario)

    def test_a_stateless_upstream_gets_it_cut_to_the_grants(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            params = enveloped(
                {"name": "echo"},
                capabilities={"sampling": {}, "elicitation": {}, "tasks": {}, "x": 1},
                meta={"traceparent": "00-1-2-03", f"{META}logLevel": "info"},
            )
            bench.send({"id": 1, "method": "tools/call", "params": params})
            (call,) = await bench.put()
            meta = call["params"]["_meta"]
            assert meta[CAPABILITIES] == {"elicitation": {}, "x": 1}
            assert meta[VERSION] == REVISION
            assert meta[f"{META}clientInfo"] == {"name": "c", "version": "1"}
            assert meta[f"{META}logLevel"] == "info"
            assert meta["traceparent"] == "00-1-2-03"
            bench.upstream.answer(call, DONE)

        run(scenario, era="stateless")

    def test_a_handshake_upstream_gets_none_of_it(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            params = enveloped(
                {"name": "echo", "inputResponses": {"q": 1}}, meta={"traceparent": "00-1-2-03"}
            )
            bench.send({"id": 1, "method": "tools/call", "params": params})
            (call,) = await bench.put()
            assert call["params"] == {"name": "echo", "_meta": {"traceparent": "00-1-2-03"}}
            bench.upstream.answer(call, DONE)

        run(scenario)

    @ERAS
    def test_who_says_it_is_in_the_record_and_changes_no_decision(self, run: Run, era: str) -> None:
        async def scenario(bench: Bench) -> None:
            meta = {f"{META}clientInfo": {"name": "another", "version": "9"}, "agent": "root"}
            params = enveloped({"name": "hidden"}, meta=meta)
            bench.send({"id": 1, "method": "tools/call", "params": params})
            result = (await bench.answered(1))["result"]
            assert (result["isError"], result["resultType"]) == (True, "complete")
            (record,) = bench.records(kind="decision")
            assert record["client"] == {"name": "another", "version": "9"}
            assert (record["agent"], record["protocol"]) == ("tester", REVISION)

        run(scenario, era=era)


class TestMessages:
    @ERAS
    def test_the_gateway_can_be_discovered(self, run: Run, era: str) -> None:
        async def scenario(bench: Bench) -> None:
            bench.ask(1, "server/discover")
            result = (await bench.answered(1))["result"]
            assert result["supportedVersions"][0] == REVISION
            assert result["resultType"] == "complete"
            assert result["cacheScope"] == "private"
            assert set(result["capabilities"]) == {"tools", "logging"}

        run(scenario, era=era)

    @pytest.mark.parametrize(
        "method", ["ping", "logging/setLevel", "resources/subscribe", "tasks/list", "x/y"]
    )
    def test_a_method_that_the_revision_has_not_is_unknown(self, run: Run, method: str) -> None:
        async def scenario(bench: Bench) -> None:
            bench.ask(1, method, {"level": "info", "uri": "x:"})
            assert (await bench.answered(1))["error"]["code"] == -32601
            (refused,) = bench.records(kind="decision")
            assert (refused["method"], refused["decision"]) == (method, "deny")

        run(scenario, declared=WHOLE)

    def test_clients_have_no_news_and_no_answers_to_send(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            bench.ask(1, "server/discover")
            await bench.answered(1)
            bench.send({"method": "notifications/roots/list_changed"})
            bench.send({"id": 1, "result": {}})
            assert bench.client.rejected == 2
            assert len(bench.client.got) == 1
            await until(lambda: len(bench.records(kind="decision", decision="deny")) == 2)

        run(scenario)

    def test_an_id_is_used_once_at_a_time(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            bench.ask_tool(1)
            (call,) = await bench.put()
            bench.ask_tool(1)
            assert (await bench.answered(1))["error"]["code"] == -32600
            bench.upstream.answer(call, DONE)
            assert len(bench.answers(1)) == 2

        run(scenario)

    def test_a_cancelled_call_is_cancelled_upstream(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            bench.ask_tool("mine")
            (call,) = await bench.put()
            bench.send({"method": "notifications/cancelled", "params": {"requestId": "mine"}})
            (cancelled,) = bench.upstream.named("notifications/cancelled")
            assert cancelled["params"]["requestId"] == call["id"]
            bench.upstream.answer(call, DONE)
            assert bench.answers("mine") == []

        run(scenario, era="stateless")


class TestResults:
    @ERAS
    def test_are_complete(self, run: Run, era: str) -> None:
        async def scenario(bench: Bench) -> None:
            bench.ask_tool(1)
            typed = {"resultType": "complete"} if era == "stateless" else {}
            await bench.finish({**DONE, **typed})
            assert (await bench.answered(1))["result"] == {**DONE, "resultType": "complete"}

        run(scenario, era=era)

    @ERAS
    @pytest.mark.parametrize("method", ["tools/list", "resources/list", "resources/read"])
    def test_of_an_upstream_are_never_public(self, run: Run, era: str, method: str) -> None:
        async def scenario(bench: Bench) -> None:
            bench.ask(1, method, {"uri": "x:"})
            if method != "tools/list":
                await until(lambda: bench.opened["up"] and bench.upstream.named(method))
                public = {"x": 1, "ttlMs": 5, "cacheScope": "public"}
                bench.upstream.answer(bench.upstream.named(method)[0], public)
            result = (await bench.answered(1))["result"]
            assert result["cacheScope"] == "private"
            assert isinstance(result["ttlMs"], int)
            assert result.get("resultType", "complete") == "complete"

        run(scenario, era=era, declared=WHOLE)

    def test_that_are_no_object_fail_the_call(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            bench.ask_tool(1)
            await bench.finish(7)
            assert (await bench.answered(1))["error"]["code"] == 502

        run(scenario)

    def test_a_missing_resource_has_this_eras_code(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            bench.ask(1, "resources/read", {"uri": "x:"})
            await until(lambda: bench.opened["up"] and bench.upstream.named("resources/read"))
            (asked,) = bench.upstream.named("resources/read")
            error = {"code": -32002, "message": "no", "data": {"uri": "x:"}}
            bench.upstream.say({"id": asked["id"], "error": error})
            assert (await bench.answered(1))["error"] == {**error, "code": -32602}

        run(scenario, declared=WHOLE)

    def test_progress_comes_under_the_clients_own_token(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            bench.ask(1, "tools/call", {"name": "echo"}, meta={"progressToken": "mine"})
            (call,) = await bench.put()
            token = call["params"]["_meta"]["progressToken"]
            assert token == call["id"]
            params = {"progressToken": token, "progress": 1}
            bench.upstream.say({"method": "notifications/progress", "params": params})
            assert bench.client.got[-1]["params"] == {"progressToken": "mine", "progress": 1}
            bench.upstream.answer(call, DONE)

        run(scenario, era="stateless")


class TestLogLevel:
    def log(self, bench: Bench, request: int | None = None) -> None:
        params = {"level": "info", "data": "said"}
        bench.upstream.say({"method": "notifications/message", "params": params}, request)

    @ERAS
    def test_only_a_request_that_asks_for_logs_gets_them(self, run: Run, era: str) -> None:
        async def scenario(bench: Bench) -> None:
            bench.ask_tool(1)
            (first,) = await bench.put()
            self.log(bench)
            bench.upstream.answer(first, DONE)
            await bench.answered(1)
            assert len(bench.client.got) == 1
            bench.ask(2, "tools/call", {"name": "echo"}, meta={f"{META}logLevel": "info"})
            second = (await bench.put(2))[1]
            for told in bench.upstream.named("logging/setLevel"):
                bench.upstream.answer(told, {})
            self.log(bench)
            assert bench.client.got[-1]["params"] == {"level": "info", "data": "said"}
            bench.upstream.answer(second, DONE)

        run(scenario, era=era)

    def test_a_handshake_upstream_is_told_a_level_before_the_first_call_that_has_one(
        self, run: Run
    ) -> None:
        async def scenario(bench: Bench) -> None:
            for identifier, level in ((1, "info"), (2, "info"), (3, "error")):
                meta = {f"{META}logLevel": level}
                bench.ask(identifier, "tools/call", {"name": "echo"}, meta=meta)
                await bench.put(identifier)
            told = bench.upstream.named("logging/setLevel")
            assert [one["params"] for one in told] == [{"level": "info"}, {"level": "error"}]
            methods = [one["method"] for one in bench.upstream.got]
            assert methods.index("logging/setLevel") < methods.index("tools/call")
            for one in (*told, *bench.upstream.named("tools/call")):
                bench.upstream.answer(one, {})

        run(scenario)


class TestTasks:
    def test_belong_to_the_agent_whose_call_began_them(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            bench.ask_tool(1)
            task = {"resultType": "task", "taskId": "t-1", "status": "working"}
            await bench.finish(task)
            assert (await bench.answered(1))["result"] == task
            for number, method in enumerate(("tasks/get", "tasks/update", "tasks/cancel"), 2):
                bench.ask(number, method, {"taskId": "t-1"})
                await until(lambda m=method: bench.upstream.named(m))
                bench.upstream.answer(bench.upstream.named(method)[0], {"resultType": "complete"})
                assert (await bench.answered(number))["result"]
                bench.ask(f"other {method}", method, {"taskId": "t-2"})
                refused = await bench.answered(f"other {method}")
                assert refused["error"] == {"code": -32602, "message": "Task not found"}

        run(scenario, era="stateless")
