"""Many agents of one host on one connection: each call is that of whom the hook registered."""

import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gateway.audit.keys import Digester
from gateway.identity.spool import Registration, arguments_digest
from gateway.policy.snapshot import Grants
from tests.relay.bench import Bench, settle, until
from tests.relay.test_rounds import ACCEPTED, ELICITATION, wants
from tests.relay.test_stateless import DONE

Run = Callable[..., None]
OTHERS = {"reader": ["mcp__up__hidden"]}
TOOL_USE = "claudecode/toolUseId"


def register(
    bench: Bench,
    tool_use_id: str,
    agent_type: str | None = "tester",
    *,
    tool: str = "mcp__up__echo",
    arguments: object = None,
    age_s: float = 0,
) -> None:
    """What `gateway hook` does."""
    digest = arguments_digest(arguments, Digester.open(bench.directory).digest)
    now_ns = time.time_ns() - int(age_s * 1e9)
    assert bench.gateway.spool is not None
    bench.gateway.spool.register(
        Registration(tool_use_id, "host-session", agent_type, "id-7", tool, digest, now_ns)
    )


def call(
    bench: Bench, identifier: object, tool_use_id: object, name: str = "echo", **more: Any
) -> None:
    bench.call(identifier, name, _meta={TOOL_USE: tool_use_id}, **more)


async def refused(bench: Bench, identifier: object) -> str:
    """The words of a refusal, and that nothing went upstream."""
    await until(lambda: bench.answers(identifier))
    assert bench.upstream.named("tools/call") == []
    result = bench.answers(identifier)[0]["result"]
    assert result["isError"] is True
    return str(result["content"][0]["text"])


class TestCalls:
    def test_each_is_decided_and_recorded_as_its_own_agents(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start()
            register(bench, "t1", "tester", arguments={"a": 1.0})
            register(bench, "t2", "reader")
            call(bench, 1, "t1", arguments={"a": 1})
            call(bench, 2, "t2")
            await bench.put()
            await until(lambda: bench.answers(2))
            (first,) = bench.records(kind="decision", agent="tester")
            (second,) = bench.records(kind="decision", agent="reader")
            assert (first["identified"], first["decision"]) == ("hook", "allow")
            assert first["host"] == {
                "agent_id": "id-7",
                "agent_type": "tester",
                "session": "host-session",
                "tool_use_id": "t1",
            }
            assert (second["identified"], second["decision"]) == ("hook", "deny")
            assert len(bench.upstream.named("tools/call")) == 1

        run(scenario, hook=True, others=OTHERS)

    def test_the_hook_may_be_a_little_late(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start()
            call(bench, 1, "t1")
            await settle()
            assert bench.records(kind="decision") == []
            register(bench, "t1")
            await bench.put()

        run(scenario, hook=True)

    def test_without_a_registration_it_is_refused_with_the_remedy(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start()
            call(bench, 1, "t1")
            assert "gateway init" in await refused(bench, 1)
            (record,) = bench.records(kind="decision")
            assert (record["agent"], record["identified"], record["rule"]) == (
                None,
                "none",
                "identity",
            )

        run(scenario, hook=True)

    @pytest.mark.parametrize("meta", [{}, {TOOL_USE: 7}, {TOOL_USE: None}, None, "t1", []])
    def test_without_an_id_it_is_refused_at_once(self, run: Run, meta: object) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start()
            register(bench, "t1")
            bench.call(1, _meta=meta)
            await until(lambda: bench.answers(1))
            assert bench.upstream.named("tools/call") == []

        run(scenario, hook=True)

    @pytest.mark.parametrize(
        ("registered", "word"),
        [
            ({"tool": "mcp__up__hidden"}, "another tool"),
            ({"tool": "Bash"}, "another tool"),
            ({"arguments": {"a": 2}}, "other arguments"),
            ({"age_s": 3600}, "more than"),
            ({"age_s": -3600}, "future"),
            ({"agent_type": None}, "main_thread"),
            ({"agent_type": "Explore"}, "builtin_agents"),
            ({"agent_type": "@main-thread"}, "no name of an agent"),
            ({"agent_type": "unheard-of"}, "not defined"),
        ],
    )
    def test_what_does_not_match_is_refused_with_the_reason(
        self, run: Run, registered: dict[str, Any], word: str
    ) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start()
            register(bench, "t1", **registered)
            call(bench, 1, "t1")
            assert word in await refused(bench, 1)

        run(scenario, hook=True)

    def test_a_registration_serves_once(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start()
            register(bench, "t1")
            call(bench, 1, "t1")
            await bench.put()
            call(bench, 2, "t1")
            await until(lambda: bench.answers(2))
            assert len(bench.upstream.named("tools/call")) == 1
            assert bench.records(kind="decision")[1]["decision"] == "deny"

        run(scenario, hook=True)

    def test_the_main_thread_is_whom_the_configuration_names(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start()
            register(bench, "t1", None)
            call(bench, 1, "t1")
            await bench.put()
            assert bench.records(kind="decision")[0]["agent"] == "tester"

        run(scenario, hook=True, main_thread="tester")

    def test_in_an_aggregate_the_clients_name_for_the_gateway_does_not_matter(
        self, run: Run
    ) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start()
            register(bench, "t1", tool="mcp__all-tools__up__echo")
            call(bench, 1, "t1", "up__echo")
            await bench.put()

        run(scenario, hook=True, aggregate=True)

    def test_one_that_waits_when_the_client_goes_is_refused(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start()
            call(bench, 1, "t1")
            await bench.session.close("gone", 1)
            (record,) = bench.records(kind="decision")
            assert record["decision"] == "deny"
            assert bench.upstream.named("tools/call") == []

        run(scenario, hook=True)

    def test_a_question_in_an_answer_is_decided_and_recorded_as_the_callers(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start(elicitation={})
            register(bench, "t1")
            call(bench, 1, "t1")
            (sent,) = await bench.put()
            wanted = {"q": {"method": "elicitation/create", "params": {"message": "m"}}}
            bench.upstream.answer(sent, {"resultType": "input_required", "inputRequests": wanted})
            await until(lambda: bench.records(kind="decision", action="elicitation"))
            (record,) = bench.records(kind="decision", action="elicitation")
            assert (record["agent"], record["decision"]) == ("tester", "allow")
            question = bench.client.got[0]
            bench.send({"id": question["id"], "result": {"action": "decline"}})
            await bench.finish(DONE, 2)
            await bench.answered(1)

        run(scenario, hook=True, era="stateless")

    @pytest.mark.parametrize("method", ["admin/list", "x/y/list"])
    def test_an_unknown_listing_on_a_shared_connection_is_nobodys(
        self, run: Run, method: str
    ) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start()
            bench.send({"id": 1, "method": method})
            await until(lambda: bench.answers(1))
            bench.send({"method": method})
            await settle()
            assert "error" in bench.answers(1)[0]
            assert bench.upstream.named(method) == []

        run(scenario, hook=True, passthrough=True)

    def test_a_task_is_nobodys_without_a_registration(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start()
            register(bench, "t1")
            call(bench, 1, "t1", task={})
            (sent,) = await bench.put()
            bench.upstream.answer(sent, {"task": {"taskId": "k", "status": "working"}})
            await bench.answered(1)
            methods = ("tasks/get", "tasks/list", "tasks/cancel", "tasks/result")
            for number, method in enumerate(methods, 10):
                bench.send({"id": number, "method": method, "params": {"taskId": "k"}})
                assert "error" in await bench.answered(number)
                assert bench.upstream.named(method) == []

        run(scenario, hook=True, others={"reader": ["mcp__up"]}, declared=("mcp__up",))


class TestPosing:
    @pytest.mark.parametrize("hook", [True, False])
    def test_what_a_client_calls_itself_makes_it_nobody_else(self, run: Run, hook: bool) -> None:
        async def scenario(bench: Bench) -> None:
            params = {
                "protocolVersion": "2025-11-25",
                "capabilities": {"agent": "reader"},
                "clientInfo": {"name": "reader", "version": "1", "agent": "reader"},
                "_meta": {"agent": "reader", "agent_type": "reader"},
            }
            bench.send({"id": "init", "method": "initialize", "params": params})
            await until(lambda: bench.client.got)
            if hook:
                register(
                    bench, "t1", "tester", tool="mcp__up__hidden", arguments={"agent": "reader"}
                )
            meta = {TOOL_USE: "t1", "agent": "reader", "agent_type": "reader"}
            bench.call(1, "hidden", _meta=meta, arguments={"agent": "reader"}, agent="reader")
            await refused(bench, 1)
            (record,) = bench.records(kind="decision", action="tool")
            assert (record["agent"], record["decision"]) == ("tester", "deny")

        run(scenario, hook=hook, others=OTHERS)


class TestRounds:
    """The host runs its hook once for a call, however often the call comes back with more input."""

    def ask(self, bench: Bench, identifier: int, **more: Any) -> None:
        params = {"name": "echo", "arguments": {"a": 1}, **more}
        bench.ask(identifier, "tools/call", params, meta={TOOL_USE: "t1"})

    def test_the_next_round_is_that_of_the_same_agent(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            register(bench, "t1", arguments={"a": 1})
            self.ask(bench, 1)
            (first,) = await bench.put()
            bench.upstream.answer(first, wants("opaque", who=ELICITATION))
            state = (await bench.answered(1))["result"]["requestState"]
            self.ask(bench, 2, inputResponses={"who": ACCEPTED}, requestState=state)
            assert (await bench.put(2))[1]["params"]["requestState"] == "opaque"
            agents = {each["agent"] for each in bench.records(kind="decision", action="tool")}
            assert agents == {"tester"}

        run(scenario, hook=True, era="stateless")

    @pytest.mark.parametrize("more", [{}, {"requestState": "made up"}])
    def test_nothing_else_comes_back_under_its_id(self, run: Run, more: dict[str, Any]) -> None:
        async def scenario(bench: Bench) -> None:
            register(bench, "t1", arguments={"a": 1})
            self.ask(bench, 1)
            (first,) = await bench.put()
            bench.upstream.answer(first, wants("opaque", who=ELICITATION))
            await bench.answered(1)
            self.ask(bench, 2, **more)
            await bench.answered(2)
            assert len(bench.upstream.named("tools/call")) == 1

        run(scenario, hook=True, era="stateless")


class TestListings:
    def test_they_show_the_tools_of_every_agent_and_no_other(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start()
            bench.send({"id": 1, "method": "tools/list"})
            await until(lambda: bench.answers(1))
            shown = {tool["name"] for tool in bench.answers(1)[0]["result"]["tools"]}
            assert shown == {"echo", "hidden"}

        run(scenario, hook=True, others=OTHERS, tools=("echo", "hidden", "third"))


class TestAnotherSnapshot:
    def test_a_lost_tool_is_gone_at_once_and_the_client_is_told(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start()
            bench.call(1)
            await bench.put()
            bench.gateway.in_force.exchange(bench.compiled({"tester": ["Read"]}, "e" * 64))
            bench.call(2)
            await until(lambda: bench.answers(2))
            assert len(bench.upstream.named("tools/call")) == 1
            first, second = bench.records(kind="decision")
            assert (first["snapshot"], second["snapshot"]) == ("d" * 64, "e" * 64)
            assert second["rule"] == "not declared"
            told = [message.get("method") for message in bench.client.got]
            assert "notifications/tools/list_changed" in told

        run(scenario)

    def test_an_upstream_that_it_opens_up_is_connected(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start()
            assert bench.opened["up"] == []
            bench.gateway.in_force.exchange(bench.compiled({"tester": ["mcp__up__echo"]}, "e" * 64))
            bench.call(1)
            await bench.put()

        run(scenario, declared=("Read",))

    def test_observing_lets_pass_and_records_what_would_have_been(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start()
            observing = bench.compiled({"tester": ["Read"]}, "e" * 64, observe=True)
            bench.gateway.in_force.exchange(observing)
            bench.call(1)
            (call,) = await bench.put()
            bench.upstream.answer(call, {"content": []})
            decision = bench.records(kind="decision")[0]
            assert (decision["decision"], decision["enforced"]) == ("deny", False)
            assert bench.records(kind="outcome")[0]["status"] == "ok"

        run(scenario)

    def test_a_session_that_is_over_hears_of_none(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start()
            await bench.session.close("gone", 1)
            bench.client.got.clear()
            bench.gateway.in_force.exchange(bench.compiled({"tester": ["Read"]}, "e" * 64))
            assert bench.client.got == []

        run(scenario)

    def test_a_call_that_waits_for_the_hook_is_decided_on_the_new_one(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start()
            call(bench, 1, "t1")
            await settle()
            bench.gateway.in_force.exchange(bench.compiled({"other": ["Read"]}, "e" * 64))
            register(bench, "t1")
            await until(lambda: bench.answers(1))
            (record,) = bench.records(kind="decision")
            assert (record["agent"], record["decision"], record["snapshot"]) == (
                "tester",
                "deny",
                "e" * 64,
            )
            assert bench.upstream.named("tools/call") == []

        run(scenario, hook=True)

    def test_an_upstream_that_it_has_no_more_does_no_harm(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start()
            bench.call(1)
            (sent,) = await bench.put()
            bench.traits = {}
            bench.gateway.in_force.exchange(bench.compiled({}, "e" * 64))
            bench.upstream.say(
                {"id": 7, "method": "elicitation/create", "params": {"message": "m"}}
            )
            bench.upstream.say({"method": "notifications/tools/list_changed"})
            bench.upstream.answer(sent, DONE)
            bench.call(2)
            bench.send({"id": 3, "method": "tools/list"})
            for number in (1, 2, 3):
                await bench.answered(number)
            assert bench.answers(3)[0]["result"]["tools"] == []
            assert bench.answers(2)[0]["result"]["isError"]
            assert len(bench.upstream.named("tools/call")) == 1
            bench.upstream.connection.closed("crashed", "")
            await settle()

        run(scenario)

    def test_sampling_that_was_not_accepted_is_not_offered_to_an_upstream(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            wide = bench.compiled({"tester": ["mcp__up__echo"]}, "e" * 64)
            bench.entry = msgspec.structs.replace(bench.entry, grants=Grants())
            narrow = bench.compiled({"tester": ["mcp__up__echo"]}, "e" * 64)
            bench.gateway.in_force.exchange(msgspec.structs.replace(wide, accepted=narrow.agents))
            await bench.start(sampling={})
            (opening,) = bench.upstream.named("initialize")
            assert "sampling" not in opening["params"]["capabilities"]

        run(scenario, grants=Grants(sampling=("up",)))
