"""What an upstream asks a handshake client, and how a question ends without an answer."""

from tests.relay.bench import Bench, Message, settle, until
from tests.relay.conftest import Run

ASKING: Message = {"id": "q", "method": "elicitation/create", "params": {"message": "Who?"}}
WITHDRAWAL: Message = {"method": "notifications/cancelled", "params": {"requestId": "q"}}
ACCEPTED = {"action": "accept"}


def test_a_question_that_is_withdrawn_is_withdrawn_from_the_client(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.start(elicitation={})
        bench.upstream.say(ASKING)
        (question,) = bench.client.got
        bench.upstream.say(WITHDRAWAL)
        assert bench.client.got[1]["params"] == {"requestId": question["id"]}
        bench.send({"id": question["id"], "result": ACCEPTED})  # too late, and no offence
        await settle()
        assert bench.client.rejected == 0
        assert all("result" not in message for message in bench.upstream.got)
        assert [one["status"] for one in bench.records(kind="outcome")] == ["cancelled"]

    run(scenario)


def test_one_that_is_withdrawn_before_it_is_recorded_is_never_put(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.start(elicitation={})
        bench.gate.shut()
        bench.upstream.say(ASKING)
        bench.upstream.say(WITHDRAWAL)
        bench.gate.open()
        await until(lambda: bench.records(kind="outcome", status="cancelled"))
        assert bench.client.got == []

    run(scenario, durability="power")


def test_one_whose_upstream_is_gone_before_it_is_recorded_is_never_put(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.start(elicitation={})
        bench.gate.shut()
        bench.upstream.say(ASKING)
        bench.upstream.connection.closed("crashed", "")
        bench.gate.open()
        await until(lambda: bench.records(kind="outcome", status="cancelled"))
        assert bench.client.got == []

    run(scenario, durability="power")
