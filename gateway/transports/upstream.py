"""What a connection to an upstream is to the relay: the same for stdio and HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.wire.lines import Oversized


class UpstreamUnavailable(Exception):  # noqa: N818 - it says what is the case, not that we erred
    """The upstream could not be started or reached.

    `reason` is one sentence without secrets; `detail` is what helps the operator further.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


class UpstreamEvents(Protocol):
    """What a transport reports. All calls come on the event loop's thread and must not raise."""

    def frame_received(self, frame: bytes, request: int | None) -> None:
        """One JSON-RPC message, without line end, not parsed and not checked. What came over
        HTTP may contain line breaks between its tokens.

        `request` is the gateway's own id of the request whose HTTP response carried it, None
        for stdio and for the GET stream.
        """

    def frame_dropped(self, dropped: Oversized) -> None:
        """A message over the size limit was dropped (stdio); its ends may tell which it was."""

    def request_failed(self, request: int | None, reason: str) -> None:
        """HTTP: no answer to `request` will come; `reason` says why, without secrets.

        None: a notification or an answer of ours was not accepted.
        """

    def waiting_for(self, request: int) -> bool:
        """HTTP: is the answer to `request` still wanted? Asked when its response has brought a
        frame or has ended, to tell an answered request from a failed one."""

    def noise(self, size_bytes: int) -> None:
        """Something that is not a message was dropped."""

    def pause(self) -> None:
        """The upstream takes no more for now: its write buffer is full."""

    def resume(self) -> None:
        """The write buffer has drained."""

    def closed(self, reason: str, detail: str) -> None:
        """The connection is gone, by itself or through `stop()`. Called exactly once after a
        successful `start()`, and last of all. `detail`: the last lines of stderr."""


class UpstreamTransport(Protocol):
    """One connection to an upstream. `stop()` must be called after every successful `start()`,
    also when the connection closed by itself."""

    async def start(self) -> None:
        """Open the connection. Raises UpstreamUnavailable."""

    closes_streams: bool
    """Whether closing the response stream is how a request is cancelled (HTTP)."""

    def send(
        self,
        frame: bytes,
        request: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send one message without line end; nothing happens once the connection has closed.

        `request` is the gateway's own id where the message is a request; `headers` are sent with
        it over HTTP. Raises ValueError where the frame contains a line feed.
        """

    def abandon(self, request: int) -> None:
        """HTTP: close that request's response stream; nothing more is reported for it."""

    def session_started(self, protocol_version: str) -> None:
        """HTTP: send this version from now on, and open the GET stream."""

    def pause_reading(self) -> None:
        """Take nothing more from the upstream; what has been read already is still reported."""

    def resume_reading(self) -> None:
        """Undo `pause_reading()`."""

    async def stop(self, grace_s: float) -> None:
        """Close the connection and end what belongs to it, at the latest some seconds after
        `grace_s`. May be called more than once."""
