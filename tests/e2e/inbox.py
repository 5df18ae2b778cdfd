"""What a client of the tests has received, and waiting for more of it."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

LATEST = "2025-11-25"
REVISIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
PATIENCE_S = 20.0

Message = dict[str, Any]


def frame(message: Mapping[str, Any]) -> bytes:
    """A well-formed JSON-RPC message."""
    return json.dumps({"jsonrpc": "2.0", **message}, separators=(",", ":")).encode()


def request(identifier: object, method: str, params: object = None) -> bytes:
    more = {} if params is None else {"params": params}
    return frame({"id": identifier, "method": method, **more})


def call(identifier: object, tool: str, arguments: object = None, **more: Any) -> bytes:
    params = {"name": tool, "arguments": {} if arguments is None else arguments, **more}
    return request(identifier, "tools/call", params)


def initialize_params(revision: str = LATEST, **capabilities: Any) -> Message:
    return {
        "protocolVersion": revision,
        "capabilities": capabilities,
        "clientInfo": {"name": "raw", "version": "1"},
    }


def text_of(answer: Message) -> str:
    """The text of a tool result."""
    text: str = answer["result"]["content"][0]["text"]
    return text


class Inbox:
    """A client: the frames that came, in order, as they came. How frames go is its transport's."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.ended = False
        self._changed = threading.Condition()
        self._ids = 0

    @property
    def messages(self) -> list[Message]:
        return [json.loads(line) for line in self.lines]

    def send(self, *frames: bytes) -> None:
        """Send frames, and do not wait for anything."""
        raise NotImplementedError

    def explain(self) -> str:
        """What helps to understand a failure."""
        return ""

    def open(self, revision: str = LATEST, **capabilities: Any) -> Message:
        """The handshake; the answer to `initialize`."""
        answer = self.ask("initialize", initialize_params(revision, **capabilities))
        self.send(frame({"method": "notifications/initialized"}))
        return answer

    def ask(self, method: str, params: object = None) -> Message:
        """A request under an id of its own, and the answer to it."""
        self._ids += 1
        identifier = f"ask-{self._ids}"
        self.send(request(identifier, method, params))
        return self.answer(identifier)

    def call(self, tool: str, arguments: object = None, **more: Any) -> Message:
        params = {"name": tool, "arguments": {} if arguments is None else arguments, **more}
        return self.ask("tools/call", params)

    def answer(self, identifier: object, timeout_s: float = PATIENCE_S) -> Message:
        """Wait for the answer to `identifier`."""
        return self.first(
            lambda message: "method" not in message and message.get("id") == identifier, timeout_s
        )

    def answers(self, identifier: object) -> list[Message]:
        """All answers to `identifier` so far."""
        return [
            message
            for message in self.messages
            if "method" not in message and message.get("id") == identifier
        ]

    def told(self, method: str, timeout_s: float = PATIENCE_S) -> Message:
        """Wait for a request or notification of the gateway's."""
        return self.first(lambda message: message.get("method") == method, timeout_s)

    def first(self, wanted: Callable[[Message], bool], timeout_s: float = PATIENCE_S) -> Message:
        line = self.first_line(lambda line: wanted(json.loads(line)), timeout_s)
        message: Message = json.loads(line)
        return message

    def first_line(self, wanted: Callable[[bytes], bool], timeout_s: float = PATIENCE_S) -> bytes:
        deadline = time.monotonic() + timeout_s
        seen = 0
        with self._changed:
            while True:
                for line in self.lines[seen:]:
                    if wanted(line):
                        return line
                seen = len(self.lines)
                left = deadline - time.monotonic()
                if self.ended or left <= 0:
                    last = [line[:300] for line in self.lines[-5:]]
                    raise AssertionError(f"no such message; got {last}; {self.explain()}")
                self._changed.wait(left)

    def forget(self) -> None:
        """Drop what has come so far."""
        with self._changed:
            self.lines = []

    def _received(self, line: bytes) -> None:
        with self._changed:
            self.lines.append(line)
            self._changed.notify_all()

    def _over(self) -> None:
        with self._changed:
            self.ended = True
            self._changed.notify_all()
