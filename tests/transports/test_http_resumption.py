"""The log of a session's event streams: what a client that comes back is given, and what not."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.transports import http_resumption
from gateway.transports.http_replies import HttpOutlet, MessageQueue, PostReply
from gateway.transports.http_resumption import Budget, EventLog, ResumableStream

Events = list[tuple[str, bytes]]


def new_queue() -> MessageQueue:
    return MessageQueue(lambda: None, lambda: None)


def new_post(log: EventLog) -> tuple[PostReply, ResumableStream]:
    """A POST that has become an event stream, primed."""
    reply = PostReply(new_queue(), HttpOutlet(), streams=True)
    reply.expect()
    stream = reply.begin(log)
    assert stream is not None
    assert stream.prime() == f"{stream.number}-0"
    return reply, stream


def sent(stream: ResumableStream) -> Events:
    """Send what waits."""
    assert stream.queue is not None
    return [(stream.sent(frame), frame) for frame in iter(stream.queue.take, None)]


def resumed(log: EventLog, last_event_id: str) -> tuple[ResumableStream, Events]:
    found = log.resume(last_event_id.encode(), new_queue())
    assert found is not None
    return found


@pytest.fixture
def on_a_loop() -> Callable[[Callable[[EventLog], None]], None]:
    def run(scenario: Callable[[EventLog], None]) -> None:
        async def whole() -> None:
            budget = Budget()
            log = EventLog(budget)
            scenario(log)
            log.close()
            assert budget.left_bytes == http_resumption.KEPT_BYTES_OF_ALL

        asyncio.run(whole())

    return run


def test_what_came_after_an_event_is_replayed_and_the_stream_goes_on(on_a_loop) -> None:
    def scenario(log: EventLog) -> None:
        reply, stream = new_post(log)
        reply.send(b"a")
        reply.send(b"b")
        assert sent(stream) == [("1-1", b"a"), ("1-2", b"b")]
        reply.send(b"in the queue")
        reply.queue.abandon()
        reply.over()
        reply.send(b"while away")
        again, events = resumed(log, "1-1")
        assert again is stream
        assert events == [("1-2", b"b"), ("1-3", b"in the queue"), ("1-4", b"while away")]
        reply.answer(b"answer")
        assert sent(stream) == [("1-5", b"answer")]
        assert stream.queue is not None
        assert stream.queue.ended

    on_a_loop(scenario)


def test_an_answer_that_came_meanwhile_is_there_and_ends_the_stream(on_a_loop) -> None:
    def scenario(log: EventLog) -> None:
        reply, stream = new_post(log)
        reply.over()
        reply.answer(b"answer")
        for _ in range(2):  # it may get lost a second time
            queue = new_queue()
            assert log.resume(b"1-0", queue) == (stream, [("1-1", b"answer")])
            assert queue.ended
            assert stream.break_off(queue)
        assert resumed(log, "1-1") == (stream, [])

    on_a_loop(scenario)


def test_streams_are_not_mixed(on_a_loop) -> None:
    def scenario(log: EventLog) -> None:
        first, one = new_post(log)
        second, two = new_post(log)
        for number in range(3):
            first.send(b"first %d" % number)
            second.send(b"second %d" % number)
        sent(one)
        sent(two)
        assert resumed(log, "1-1")[1] == [("1-2", b"first 1"), ("1-3", b"first 2")]
        assert resumed(log, "2-2")[1] == [("2-3", b"second 2")]

    on_a_loop(scenario)


@pytest.mark.parametrize(
    "unknown", ["", "1", "1-", "-1", "1-2", "2-0", "0-0", "1-0 ", "1--1", "a-b", "9" * 40 + "-1"]
)
def test_an_unknown_event_is_no_event(on_a_loop, unknown: str) -> None:
    def scenario(log: EventLog) -> None:
        reply, stream = new_post(log)
        reply.send(b"a")
        sent(stream)
        assert log.resume(unknown.encode(), new_queue()) is None
        assert resumed(log, "1-1") == (stream, [])

    on_a_loop(scenario)


def test_another_sessions_event_is_unknown(on_a_loop) -> None:
    def scenario(log: EventLog) -> None:
        reply, stream = new_post(log)
        reply.send(b"a")
        sent(stream)
        assert EventLog(Budget()).resume(b"1-0", new_queue()) is None

    on_a_loop(scenario)


def test_a_client_that_knows_no_event_gets_nothing_later(on_a_loop) -> None:
    """As without resumption: news go elsewhere, the answer nowhere."""

    def scenario(log: EventLog) -> None:
        outlet = HttpOutlet()
        reply = PostReply(new_queue(), outlet, streams=True)
        reply.expect()
        assert reply.begin(log) is not None
        reply.over()
        reply.send(b"question")
        reply.answer(b"answer")
        assert log.resume(b"1-0", new_queue()) is None
        waiting = new_queue()
        outlet.attach_stream(waiting)
        assert list(iter(waiting.take, None)) == [b"question"]

    on_a_loop(scenario)


def test_a_client_that_left_before_its_stream_began_gets_none(on_a_loop) -> None:
    def scenario(log: EventLog) -> None:
        reply = PostReply(new_queue(), HttpOutlet(), streams=True)
        reply.expect()
        reply.queue.abandon()
        assert reply.begin(log) is None

    on_a_loop(scenario)


def test_coming_back_before_the_break_shows_takes_the_stream_over(on_a_loop) -> None:
    def scenario(log: EventLog) -> None:
        reply, stream = new_post(log)
        reply.send(b"a")
        sent(stream)
        reply.send(b"not sent yet")
        first = reply.queue
        again, events = resumed(log, "1-0")
        assert (again, events) == (stream, [("1-1", b"a")])
        assert first.ended
        assert sent(stream) == [("1-2", b"not sent yet")]
        reply.over()  # the first response notices at last
        reply.answer(b"answer")
        assert sent(stream) == [("1-3", b"answer")]

    on_a_loop(scenario)


def test_the_bounds_of_a_session(on_a_loop) -> None:
    def scenario(log: EventLog) -> None:
        reply, stream = new_post(log)
        reply.over()
        for number in range(http_resumption.KEPT_EVENTS + 10):
            reply.send(b"%d" % number)
        events = resumed(log, "1-0")[1]
        assert len(events) == http_resumption.KEPT_EVENTS
        assert events[0] == ("1-11", b"10")
        reply, stream = new_post(log)
        reply.over()
        for _ in range(10):
            reply.send(b"x" * (http_resumption.KEPT_BYTES // 4))
        reply.send(b"x" * (http_resumption.KEPT_BYTES + 1))
        events = resumed(log, "2-0")[1]
        assert [event_id for event_id, _ in events] == ["2-7", "2-8", "2-9", "2-10"]
        assert stream.last == 11
        assert resumed(log, "1-0")[1] == []

    on_a_loop(scenario)


def test_the_bound_of_all_sessions() -> None:
    async def scenario() -> None:
        budget = Budget(100)
        one, two = EventLog(budget), EventLog(budget)
        for log in (one, two):
            reply, _ = new_post(log)
            reply.over()
            reply.send(b"x" * 60)
        assert len(resumed(one, "1-0")[1]) == 1
        assert resumed(two, "1-0")[1] == []
        one.close()
        assert budget.left_bytes == 100

    asyncio.run(scenario())


def test_what_is_over_and_dropped_is_forgotten(on_a_loop) -> None:
    def scenario(log: EventLog) -> None:
        reply, stream = new_post(log)
        reply.answer(b"answer")
        sent(stream)
        waiting, pending = new_post(log)
        waiting.over()
        reply.over()
        log.drop_before(asyncio.get_running_loop().time() - 1)
        assert resumed(log, "1-0") == (stream, [("1-1", b"answer")])
        assert stream.queue is not None
        stream.break_off(stream.queue)
        log.drop_before(asyncio.get_running_loop().time() + 1)
        assert log.resume(b"1-1", new_queue()) is None
        assert resumed(log, "2-0") == (pending, [])  # its answer is still to come

    on_a_loop(scenario)


def test_the_end_of_the_session_ends_what_is_open(on_a_loop) -> None:
    def scenario(log: EventLog) -> None:
        reply, _ = new_post(log)
        reply.over()
        _, away = new_post(log)
        queue = new_queue()
        assert log.resume(b"1-0", queue) is not None
        log.close()
        assert queue.ended
        reply.answer(b"late")
        assert away.queue is not None
        assert away.queue.ended

    on_a_loop(scenario)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["put", "flush"]), st.integers(0, 2)),
            st.tuples(st.just("break"), st.integers(0, 2)),
            st.tuples(st.just("return"), st.integers(0, 2)),
        ),
        max_size=60,
    )
)
def test_a_client_that_always_comes_back_gets_everything_once_and_in_order(steps) -> None:
    async def scenario() -> None:
        log = EventLog(Budget())
        posts = [new_post(log) for _ in range(3)]
        put: list[list[bytes]] = [[], [], []]
        got: list[list[bytes]] = [[], [], []]
        last = ["1-0", "2-0", "3-0"]

        def receive(which: int, events: Events) -> None:
            for event_id, frame in events:
                last[which] = event_id
                got[which].append(frame)

        def come_back(which: int) -> None:
            receive(which, resumed(log, last[which])[1])

        for number, (step, which) in enumerate(steps):
            reply, stream = posts[which]
            if step == "put":
                put[which].append(b"%d" % number)
                reply.send(b"%d" % number)
            elif step == "return":
                come_back(which)
            elif stream.queue is not None and step == "flush":
                receive(which, sent(stream))
            elif stream.queue is not None:
                sent(stream)  # and lost on the way
                stream.break_off(stream.queue)
        for which, (_, stream) in enumerate(posts):
            come_back(which)
            receive(which, sent(stream))
        assert got == put

    asyncio.run(scenario())
