"""One request of a client's in flight, from its arrival to its recorded outcome."""

from typing import TYPE_CHECKING

from gateway.audit.records import new_call_id
from gateway.identity.identity import Identity
from gateway.policy.values import Action
from gateway.transports.client import Reply
from gateway.wire.envelope import RequestId
from gateway.wire.params import Params

if TYPE_CHECKING:
    from gateway.relay.connection import Connection


class Call:
    """A request that has been understood. Mutable: it gathers what happens to it.

    `action` names the target as its upstream does; `params` are what will be forwarded.
    `connection` and `upstream_id` are set while the upstream has it; `cancelled` holds the params
    of the client's cancellation.
    """

    __slots__ = (
        "action",
        "cancelled",
        "client_id",
        "connection",
        "id",
        "identity",
        "params",
        "progress_token",
        "reply",
        "started_ns",
        "upstream_id",
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
    ) -> None:
        self.id = new_call_id()
        self.client_id = client_id
        self.action = action
        self.params = params
        self.identity = identity
        self.reply = reply
        self.started_ns = started_ns
        self.progress_token: object = None
        self.connection: Connection | None = None
        self.upstream_id: int | None = None
        self.cancelled: Params | None = None
