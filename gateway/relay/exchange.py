"""One request on an upstream connection, and whose call it is at the moment."""

from typing import TYPE_CHECKING

from gateway.relay.call import Call
from gateway.relay.connection import Connection, Failure

if TYPE_CHECKING:
    from gateway.wire.envelope import Response


class Exchange:
    """A call that an upstream has.

    Between two rounds of a stateless client it is nobody's: `call` is None, and an `outcome` that
    comes meanwhile is kept. `questions` are what the upstream asks and nobody has been told yet, by
    the key of the question; `put` are those that the client was told and has not answered. `rounds`
    counts how often input was wanted.
    """

    __slots__ = ("call", "connection", "identifier", "outcome", "put", "questions", "rounds")

    def __init__(self, call: Call, connection: Connection, identifier: int) -> None:
        self.call: Call | None = call
        self.connection = connection
        self.identifier = identifier
        self.outcome: Response | Failure | None = None
        self.questions: dict[str, dict[str, object]] = {}
        self.put: dict[str, dict[str, object]] = {}
        self.rounds = 0
