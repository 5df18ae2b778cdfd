"""What a client of either era does about its session besides its messages."""

from gateway.relay.core import SessionCore
from gateway.transports.client import Reply
from gateway.wire.envelope import MalformedFrame, Notification, Request
from gateway.wire.params import Params, decode_params


class CoreClient:
    """The client of one session. Those of the eras add what it says."""

    def __init__(self, core: SessionCore) -> None:
        self.id = core.id
        self._core = core

    def oversized(self, size_bytes: int, limit_bytes: int, reply: Reply) -> None:
        """Refuse a frame that was dropped for its size."""
        self._core.refuse(too_large(size_bytes, limit_bytes), reply)

    def client_full(self) -> None:
        """The client takes no more for now."""
        self._core.pause_upstreams()

    def client_drained(self) -> None:
        """The client takes more again."""
        self._core.resume_upstreams()

    async def close(self, reason: str, grace_s: float) -> None:
        """The client is gone."""
        await self._core.close(reason, grace_s)


def too_large(size_bytes: int, limit_bytes: int) -> MalformedFrame:
    """The refusal of a frame over the size limit."""
    return MalformedFrame(
        f"the message has {size_bytes} bytes, more than the {limit_bytes} allowed"
    )


def params_of(message: Request | Notification) -> Params:
    """The decoded params of a message; raises MalformedFrame with the id to answer."""
    try:
        return decode_params(message.params)
    except MalformedFrame as malformed:
        identifier = message.id if isinstance(message, Request) else None
        raise MalformedFrame(malformed.reason, identifier) from None
