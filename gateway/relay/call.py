"""One request of a client's in flight, from its arrival to its recorded outcome."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gateway.audit.records import new_call_id
from gateway.identity.identity import Identity
from gateway.policy.values import Action
from gateway.transports.client import Reply
from gateway.wire.envelope import RequestId
from gateway.wire.modern import RequestEnvelope
from gateway.wire.params import Params

if TYPE_CHECKING:
    from gateway.policy.approval import Approval
    from gateway.policy.arguments import Answers
    from gateway.relay.exchange import Exchange
    from gateway.relay.limiting import Taken


class Call:
    """A request that has been understood. Mutable: it gathers what happens to it.

    `action` names the target as its upstream does; `params` are what will be forwarded. `key` tells
    the calls of one session apart: the client's id where ids are the session's, else the call's.
    `envelope` is set for a client of a stateless revision, `headers` are those of such a request
    over HTTP, `schema` is the input schema of the tool that is called. `exchange` is set while the
    upstream has the call, `cancelled` holds the params of the client's cancellation. `relisted`
    counts how often the catalog was read again for it, `quiet` marks one of the session's own
    making. `nobody` says why it could not be told whose call it is. `answers` are those of
    slow guards, None before they were asked. `taken` is what limits make it hold while it lasts.
    `approval` is what became of asking a person, None before one was asked; `question` is the
    result that asks a stateless client.
    """

    __slots__ = (
        "action",
        "answers",
        "approval",
        "cancelled",
        "client_id",
        "envelope",
        "exchange",
        "headers",
        "id",
        "identity",
        "key",
        "nobody",
        "own_key",
        "params",
        "question",
        "quiet",
        "relisted",
        "reply",
        "schema",
        "started_ns",
        "taken",
    )

    def __init__(
        self,
        client_id: RequestId,
        action: Action,
        params: Params,
        *,
        identity: Identity,
        reply: Reply,
        started_ns: int,
        envelope: RequestEnvelope | None = None,
        own_key: bool = False,
        headers: Mapping[str, str | None] | None = None,
        quiet: bool = False,
        identifier: str | None = None,
    ) -> None:
        self.id = new_call_id() if identifier is None else identifier
        self.client_id = client_id
        self.own_key = own_key
        self.key: RequestId = self.id if own_key else client_id
        self.action = action
        self.params = params
        self.identity = identity
        self.reply = reply
        self.started_ns = started_ns
        self.envelope = envelope
        self.headers = headers
        self.quiet = quiet
        self.exchange: Exchange | None = None
        self.cancelled: Params | None = None
        self.relisted = 0
        self.schema: object = None
        self.nobody = ""
        self.answers: Answers | None = None
        self.taken: Taken | None = None
        self.approval: Approval | None = None
        self.question: bytes | None = None

    @property
    def modern(self) -> bool:
        """Whether the client speaks a stateless revision."""
        return self.envelope is not None

    @property
    def of_the_connection(self) -> bool:
        """Whether this is asked by the client itself, not by one of its agents."""
        kind = self.action.kind
        return kind == "logging" or (kind != "unknown" and self.action.method.endswith("/list"))

    @property
    def progress_token(self) -> object:
        """The client's token for progress on this call, None where it wants none."""
        meta = self.params.get("_meta")
        return meta.get("progressToken") if isinstance(meta, dict) else None
