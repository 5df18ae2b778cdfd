"""Whatever people answer, whenever and in whichever order: an answer serves the one call it is to.

The parts are real: the log, the directory, the loop, `decide`. Only the calls are made up.
"""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.approvals.store import Store
from gateway.audit.errors import AuditUnavailable
from gateway.audit.journal import Journal
from gateway.audit.keys import Digester
from gateway.policy.approval import Approval, Bound, Terms, rule_keys
from gateway.policy.decide import decide
from gateway.policy.snapshot import Snapshot
from gateway.policy.values import Action, Context, Decision
from gateway.relay import approvals as module
from gateway.relay.approvals import Approvals, Pending
from gateway.relay.recording import Recorder
from tests.approvals.samples import request
from tests.policy.ruling import offered, rule, ruled

ASK = rule("ask", "ask", tools=("mcp__db__*",))
TERMS = Terms(by=("client", "command", "console"))
SNAPSHOTS = {
    "asks": ruled(ASK),
    "asks more": ruled(ASK, rule("more", "ask", line=2)),
    "denies": ruled(ASK, rule("no", tools=("mcp__db__*",), line=3)),
    "asks otherwise": ruled(msgspec.structs.replace(ASK, message="Really?")),
}


class Desk:
    """Calls that are held by real parts, and what came of each."""

    def __init__(self, directory: Path) -> None:
        self.journal = Journal.open(directory, durability="process", version="0")
        recorder = Recorder(
            self.journal,
            Digester.open(directory),
            arguments="shape",
            arguments_for={},
            snapshot="",
        )
        self.store = Store.open(directory / "approvals")
        self.approvals = Approvals(recorder, lambda: self.store)
        assert self.approvals.reachable == ""
        self.snapshot = SNAPSHOTS["asks"]
        self.number = 0
        self.open: list[tuple[Pending, Held]] = []
        self.passed: list[Held] = []

    def call(self, held: "Held") -> None:
        """Decide a call, and hold it where rules ask."""
        verdict = held.decided(self.snapshot, None)
        if not verdict.asks:
            return
        known = self.approvals.recall(held.bound(verdict), verdict.asking, TERMS, held.session)
        if known is not None:
            self.over(held, known)
            return
        self.number += 1
        asked = request(
            f"{self.number:016x}",
            session=held.session,
            agent=held.agent,
            ways=("client", "command"),
            call=str(self.number),
        )
        pending = self.approvals.begin(
            asked, held.bound(verdict), "words", lambda said: self.over(held, said), lambda: None
        )
        self.open.append((pending, held))

    def over(self, held: "Held", said: Approval | AuditUnavailable) -> None:
        assert isinstance(said, Approval)
        held.said.append(said)
        if held.decided(self.snapshot, said).allows:
            self.passed.append(held)

    async def settle(self) -> None:
        """Let the log be written, and have answers of other processes seen."""
        for _ in range(3):
            await asyncio.sleep(0)
        self.approvals._look()
        for _ in range(3):
            await asyncio.sleep(0)

    async def close(self) -> None:
        self.approvals.close()
        await self.settle()
        self.approvals.close()
        self.journal.close()


class Held(msgspec.Struct, eq=False):
    agent: str
    tool: str
    arguments: str
    session: str
    said: list[Approval] = []

    def decided(self, snapshot: Snapshot, said: Approval | None) -> Decision:
        context = Context(
            catalog=offered(),
            arguments={},
            now=datetime.now(UTC),
            means="process",
            approval=said,
            digest=self.arguments,
        )
        snapshot = msgspec.structs.replace(snapshot, approvals=TERMS)
        action = Action("tool", "tools/call", "db", self.tool)
        return decide(self.agent, action, snapshot, context)

    def bound(self, verdict: Decision) -> Bound:
        keys = rule_keys(verdict.asking)
        return Bound(self.agent, "process", "db", self.tool, self.arguments, keys)

    @property
    def same(self) -> tuple[str, str, str]:
        return (self.agent, self.tool, self.arguments)


_calls = st.builds(
    Held,
    agent=st.sampled_from(("a", "a", "a", "nobody")),
    tool=st.sampled_from(("query", "query", "query", "drop", "absent")),
    arguments=st.sampled_from(("one", "one", "two")),
    session=st.sampled_from(("s", "t")),
    said=st.builds(list),
)
_said = st.tuples(
    st.sampled_from(("command", "console", "client")),
    st.sampled_from((True, True, True, False)),
    st.sampled_from(("call", "session", "15m")),
)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("call"), _calls),
        # A call, and the answer to it at once: most of what is worth trying begins so.
        st.tuples(st.just("asked"), _calls, _said),
        st.tuples(st.just("asked"), _calls, _said),
        st.tuples(st.just("answer"), st.integers(0, 5), _said),
        st.tuples(st.just("withdraw"), st.integers(0, 5)),
        st.tuples(st.just("policy"), st.sampled_from(sorted(SNAPSHOTS))),
        st.tuples(st.just("leave"), st.sampled_from(("s", "t"))),
    ),
    min_size=3,
    max_size=12,
)


def answer(desk: Desk, pending: Pending, way: Any, approved: bool, remember: str) -> bool:
    """Somebody answers; whether it counted."""
    if way == "client":
        before = pending.over
        desk.approvals.answer_by_client(pending, approved=approved, by="x", remember=remember)
        return not before
    found = desk.store.find(pending.request.id)
    if found is None or way not in found.ways:
        return False
    return not desk.store.answer(found, approved=approved, by="x", way=way, remember=remember)


async def run(steps: list[Any], directory: Path) -> None:
    desk = Desk(directory)
    yes: dict[str, tuple[Held, str]] = {}
    try:
        for step in steps:
            if step[0] in ("call", "asked"):
                desk.call(step[1])
                if step[0] == "asked" and not step[1].said and desk.open:
                    pending, held = desk.open[-1]
                    if held is step[1] and answer(desk, pending, *step[2]) and step[2][1]:
                        yes[pending.request.id] = (held, step[2][2])
            elif step[0] == "policy":
                desk.snapshot = SNAPSHOTS[step[1]]
            elif step[0] == "leave":
                desk.approvals.forget(step[1])
                yes = {
                    key: (held, span)
                    for key, (held, span) in yes.items()
                    if not (span == "session" and held.session == step[1])
                }
            elif desk.open:
                pending, held = desk.open[step[1] % len(desk.open)]
                if step[0] == "withdraw":
                    desk.approvals.withdraw(pending, "gone", refusal="gone")
                elif answer(desk, pending, *step[2]) and step[2][1]:
                    yes[pending.request.id] = (held, step[2][2])
            passed = len(desk.passed)
            await desk.settle()
            for one in desk.passed[passed:]:
                # Only what is declared and offered, and not while a rule denies it.
                assert one.agent == "a"
                assert one.tool != "absent"
                assert desk.snapshot is not SNAPSHOTS["denies"]
                last = one.said[-1]
                to, span = yes[last.id]
                assert to.same == one.same
                assert to is one or span == "15m" or (span, to.session) == ("session", one.session)
        for identifier, (_, span) in yes.items():
            uses = [one for one in desk.passed if one.said[-1].id == identifier]
            assert len(uses) <= 1 or span != "call"
        # Nobody got two answers to one question.
        assert all(len(held.said) <= 1 for _, held in desk.open)
    finally:
        await desk.close()


@settings(deadline=None, max_examples=100)
@given(_steps)
def test_no_sequence_of_answers_lets_more_through_than_each_is_for(steps: list[Any]) -> None:
    for step in steps:
        if step[0] in ("call", "asked"):
            step[1].said.clear()
    with TemporaryDirectory() as name:
        asyncio.run(run(steps, Path(name)))


def test_a_question_that_cannot_be_recorded_is_not_put_and_lets_nothing_through(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        desk = Desk(tmp_path)
        came: list[object] = []
        verdict = (held := Held("a", "query", "one", "s")).decided(desk.snapshot, None)
        asked = request(ways=("command",))
        pending = desk.approvals.begin(
            asked, held.bound(verdict), "words", came.append, lambda: came.append("asked")
        )
        desk.journal.close()  # a log that takes nothing any more
        desk.approvals._recorder.flush()
        await asyncio.sleep(0)
        assert len(came) == 1
        assert isinstance(came[0], AuditUnavailable)
        assert pending.over
        assert desk.store.pending() == ()

    asyncio.run(scenario())


def test_an_answer_that_cannot_be_recorded_lets_nothing_through_and_is_not_remembered(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        desk = Desk(tmp_path)
        came: list[object] = []
        verdict = (held := Held("a", "query", "one", "s")).decided(desk.snapshot, None)
        bound = held.bound(verdict)
        asked = request(ways=("client", "command"))
        pending = desk.approvals.begin(asked, bound, "words", came.append, lambda: None)
        await desk.settle()
        (waiting,) = desk.store.pending()
        desk.journal.close()
        desk.approvals.answer_by_client(pending, approved=True, by="x", remember="session")
        await desk.settle()
        (said,) = came
        assert isinstance(said, AuditUnavailable)
        assert pending.outcome is not None
        assert pending.outcome.refusal
        recalled = desk.approvals.recall(bound, verdict.asking, TERMS, asked.session)
        assert recalled is None
        # Nor does it count a second time.
        assert desk.store.answer(waiting, approved=True, by="y", way="command")
        desk.approvals.close()

    asyncio.run(scenario())


def test_what_is_remembered_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    remembered = module.Remembered()
    held = Held("a", "query", "one", "s")
    verdict = held.decided(SNAPSHOTS["asks"], None)
    asking = verdict.asking
    now = datetime(2026, 7, 1, tzinfo=UTC)
    for number in range(module._REMEMBERED + 1):
        remembered.keep(Approval(id=str(number), bound=held.bound(verdict), until=now), "")
    assert len(remembered._kept) == module._REMEMBERED
    assert remembered.recall(held.bound(verdict), asking, TERMS, "s", now) is not None
    later = now.replace(second=1)
    assert remembered.recall(held.bound(verdict), asking, TERMS, "s", later) is None
    assert remembered._kept == {}
