"""The ways back to an HTTP client, without a server: what goes into which response."""

import asyncio
from collections.abc import Callable

from gateway.transports.http_replies import HttpOutlet, MessageQueue, PostReply


class Flow:
    """Counts how often a queue said that it is full, less that it has drained."""

    def __init__(self) -> None:
        self.held = 0

    def full(self) -> None:
        self.held += 1

    def drained(self) -> None:
        self.held -= 1

    def queue(self) -> MessageQueue:
        return MessageQueue(self.full, self.drained)


def taken(queue: MessageQueue) -> list[bytes]:
    return list(iter(queue.take, None))


def run(scenario: Callable[[], None]) -> None:
    async def on_a_loop() -> None:
        scenario()

    asyncio.run(on_a_loop())


def test_a_queue_that_is_over_takes_nothing_and_holds_nobody_up() -> None:
    def scenario() -> None:
        flow = Flow()
        queue = flow.queue()
        queue.put(b"x" * 5_000_000)
        assert flow.held == 1
        queue.close()
        assert flow.held == 0
        queue.put(b"x" * 5_000_000)
        assert flow.held == 0
        assert taken(queue) == []

    run(scenario)


def test_whoever_writes_is_told_of_every_message_and_once_of_the_end() -> None:
    def scenario() -> None:
        queue, told = Flow().queue(), []
        queue.changed = lambda: told.append((queue.take(), queue.ended))
        queue.put(b"a")
        queue.put(b"b")
        queue.end()
        queue.end()
        queue.close()
        queue.put(b"late")
        assert told == [(b"a", False), (b"b", False), (None, True)]
        assert queue.spent

    run(scenario)


def test_what_belongs_to_a_post_goes_before_its_answer() -> None:
    def scenario() -> None:
        outlet, queue = HttpOutlet(), Flow().queue()
        reply = PostReply(queue, outlet, streams=True)
        reply.expect()
        reply.send(b"progress")
        reply.answer(b"answer")
        assert queue.ended
        assert taken(queue) == [b"progress", b"answer"]

    run(scenario)


def test_it_waits_for_another_stream_where_the_client_takes_none() -> None:
    def scenario() -> None:
        outlet, queue, stream = HttpOutlet(), Flow().queue(), Flow().queue()
        reply = PostReply(queue, outlet, streams=False)
        reply.expect()
        reply.send(b"progress")
        reply.answer(b"answer")
        assert taken(queue) == [b"answer"]
        outlet.attach_stream(stream)
        assert taken(stream) == [b"progress"]

    run(scenario)


def test_what_comes_after_the_answer_is_not_lost() -> None:
    def scenario() -> None:
        outlet, queue, other = HttpOutlet(), Flow().queue(), Flow().queue()
        reply = PostReply(queue, outlet, streams=True)
        reply.expect()
        outlet.attach_reply(reply)
        reply.answer(b"answer")
        reply.send(b"late question")
        assert taken(queue) == [b"answer"]
        later = PostReply(other, outlet, streams=True)
        later.expect()
        outlet.attach_reply(later)
        assert taken(other) == [b"late question"]
        outlet.send(b"news")
        assert taken(other) == [b"news"]

    run(scenario)


def test_the_get_stream_comes_first_and_a_new_one_ends_the_old() -> None:
    def scenario() -> None:
        outlet, old, new = HttpOutlet(), Flow().queue(), Flow().queue()
        outlet.send(b"kept")
        outlet.attach_stream(old)
        outlet.attach_stream(new)
        assert old.ended
        outlet.send(b"news")
        assert (taken(old), taken(new)) == ([b"kept"], [b"news"])
        outlet.detach_stream(old)
        assert outlet.busy
        outlet.detach_stream(new)
        assert not outlet.busy

    run(scenario)
