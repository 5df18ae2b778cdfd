"""A session of a client with canaries, and the records that it leaves."""

from typing import Any

from tests.e2e.inbox import Inbox, Message, call, frame
from tests.e2e.world import World

ORIGIN = "io.github.mcp-tool-gateway/upstream"
SAMPLING: dict[str, Any] = {
    "messages": [{"role": "user", "content": {"type": "text", "text": "hi"}}],
    "maxTokens": 5,
}
ELICITATION: dict[str, Any] = {
    "message": "Your name?",
    "requestedSchema": {"type": "object", "properties": {}},
}


class Session:
    """A session of one client with one canary, shared by the tests of a transport."""

    def __init__(self, world: World, client: Inbox) -> None:
        self.world = world
        self.client = client

    def reply(self, question: Message, result: object) -> None:
        self.client.send(frame({"id": question["id"], "result": result}))

    def hang(self, identifier: object) -> Message:
        """A call that is not answered, as it has reached the upstream."""
        before = len(self.world.calls())
        self.client.send(call(identifier, "hang"))
        self.world.wait_for(lambda: len(self.world.calls()) > before)
        return self.world.calls()[-1]

    def decision(self, method: str) -> Message:
        (record,) = self.world.decisions(method=method)[-1:]
        return record

    def outcome(self, decision: Message) -> Message:
        found: list[Message] = []

        def recorded() -> bool:
            found[:] = self.world.records(kind="outcome", call=decision["call"])
            return bool(found)

        self.world.wait_for(recorded)
        return found[0]
