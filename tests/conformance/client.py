"""A client that keeps every frame as it arrived, over stdio and over streamable HTTP.

It shares no code with the gateway or an SDK, so it can witness for either.
"""

import contextlib
import json
import os
import queue
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import httpx

from tests.conformance.subjects import end

REVISION = "2025-11-25"
CAPABILITIES: Mapping[str, Any] = {
    "sampling": {},
    "elicitation": {"form": {}, "url": {}},
    "roots": {"listChanged": True},
}
OFFERS: Mapping[str, Any] = {
    "sampling/createMessage": {
        "role": "assistant",
        "content": {"type": "text", "text": "Grüße vom Modell"},
        "model": "none",
        "stopReason": "endTurn",
    },
    "elicitation/create": {"action": "accept", "content": {"username": "ann", "email": "a@b.c"}},
    "roots/list": {"roots": [{"uri": "file:///tmp", "name": "scratch"}]},
}
"""What this client answers to each request of a server."""


class GoneError(Exception):
    """The other side ended, or did not answer in time."""


class Client(ABC):
    """One session, from entry to exit; `heard` is every message that answers nothing."""

    def __init__(self) -> None:
        self._incoming: queue.Queue[bytes | None] = queue.Queue()
        self._last_id = 0
        self.heard: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def handshake(self) -> bytes:
        """Open the session; the answer's frame."""
        params = {
            "protocolVersion": REVISION,
            "capabilities": CAPABILITIES,
            "clientInfo": {"name": "differential", "version": "1", "title": "Différence"},
        }
        answer = self.request("initialize", params)
        self.notify("notifications/initialized")
        return answer

    def request(
        self, method: str, params: Mapping[str, Any] | None = None, *, timeout_s: float = 30
    ) -> bytes:
        """The frame that answers; raises GoneError."""
        self._last_id += 1
        head: dict[str, Any] = {"jsonrpc": "2.0", "id": self._last_id, "method": method}
        self._send(head if params is None else {**head, "params": params})
        give_up_at = time.monotonic() + timeout_s
        while True:
            frame = self._next(give_up_at - time.monotonic())
            message = json.loads(frame)
            if "method" not in message and message.get("id") == self._last_id:
                return frame
            self._take(message)

    def notify(self, method: str, params: Mapping[str, Any] | None = None) -> None:
        """Send what wants no answer."""
        head = {"jsonrpc": "2.0", "method": method}
        self._send(head if params is None else {**head, "params": params})

    def listen(self, quiet_s: float) -> None:
        """Take what comes, until nothing has come for a while."""
        with contextlib.suppress(queue.Empty):
            while frame := self._incoming.get(timeout=quiet_s):
                self._take(json.loads(frame))

    def _next(self, timeout_s: float) -> bytes:
        try:
            frame = self._incoming.get(timeout=max(0.0, timeout_s))
        except queue.Empty:
            raise GoneError("no answer in time") from None
        if frame is None:
            raise GoneError("the other side ended")
        return frame

    def _take(self, message: dict[str, Any]) -> None:
        self.heard.append(message)
        if "method" in message and "id" in message:
            offer = OFFERS.get(message["method"], {})
            self._send({"jsonrpc": "2.0", "id": message["id"], "result": offer})

    @abstractmethod
    def _open(self) -> None: ...

    @abstractmethod
    def _close(self) -> None: ...

    @abstractmethod
    def _send(self, message: Mapping[str, Any]) -> None: ...


class StdioClient(Client):
    """A client of a command that it starts."""

    def __init__(self, command: Sequence[str], *, cwd: Path, home: Path | None = None) -> None:
        super().__init__()
        self._command, self._cwd = command, cwd
        self._environment = {"PATH": os.environ["PATH"], "HOME": str(home or cwd)}

    def _open(self) -> None:
        self._process = subprocess.Popen(
            self._command,
            cwd=self._cwd,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        end(self._process)
        self._reader.join(5)
        self._process.stdout.close()

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message, ensure_ascii=False).encode() + b"\n")
        self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._incoming.put(line.rstrip(b"\n"))
        self._incoming.put(None)


class HttpClient(Client):
    """A client of a URL, with the stream for what answers nothing open from the handshake on."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def _open(self) -> None:
        self._http = httpx.Client(trust_env=False, timeout=60)
        self._workers = ThreadPoolExecutor(8)
        self._headers = {
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
        }
        self._stopping = threading.Event()

    def handshake(self) -> bytes:
        answer = super().handshake()
        self._headers["MCP-Protocol-Version"] = json.loads(answer)["result"]["protocolVersion"]
        streaming = threading.Event()
        self._workers.submit(self._stream, streaming)
        if not streaming.wait(10):
            raise GoneError("no stream for what answers nothing")
        return answer

    def _close(self) -> None:
        # Ending the session ends its streams, and so the threads that read them.
        self._stopping.set()
        with contextlib.suppress(httpx.HTTPError):
            self._http.delete(self._url, headers=self._headers)
        self._workers.shutdown(cancel_futures=True)
        self._http.close()

    def _send(self, message: Mapping[str, Any]) -> None:
        sent = self._workers.submit(self._post, json.dumps(message, ensure_ascii=False).encode())
        if "id" not in message or "method" not in message:
            sent.result(30)  # what follows must not overtake it

    def _post(self, body: bytes) -> None:
        with (
            self._ending_quietly(),
            self._http.stream("POST", self._url, content=body, headers=self._headers) as response,
        ):
            session = response.headers.get("mcp-session-id")
            if session is not None:
                self._headers["Mcp-Session-Id"] = session
            if response.headers.get("content-type", "").startswith("text/event-stream"):
                for frame in _events(response.iter_lines()):
                    self._incoming.put(frame)
            elif frame := response.read():
                self._incoming.put(frame)

    def _stream(self, streaming: threading.Event) -> None:
        headers = {**self._headers, "Accept": "text/event-stream"}
        with (
            self._ending_quietly(),
            self._http.stream("GET", self._url, headers=headers) as response,
        ):
            response.raise_for_status()
            streaming.set()
            for frame in _events(response.iter_lines()):
                self._incoming.put(frame)

    @contextlib.contextmanager
    def _ending_quietly(self) -> Iterator[None]:
        """A stream that breaks is the end of the session, unless this side is ending it."""
        try:
            yield
        except httpx.HTTPError:
            if not self._stopping.is_set():
                self._incoming.put(None)


def _events(lines: Iterator[str]) -> Iterator[bytes]:
    data: list[str] = []
    for line in lines:
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            if any(data):
                yield "\n".join(data).encode()
            data = []
