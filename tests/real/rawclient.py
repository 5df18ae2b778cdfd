"""The smallest MCP client: JSON-RPC messages, a line each, to a server's stdin and from its stdout.

It shares no code with the gateway or an SDK, so it can witness for either.
"""

import contextlib
import json
import queue
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

PROTOCOL_VERSION = "2025-11-25"


class ServerGoneError(Exception):
    """The server closed its stdout; the message carries the end of its stderr."""


class RemoteError(Exception):
    """The server answered a JSON-RPC error."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(f"{error.get('code')}: {error.get('message')}")
        self.error = error


class RawClient:
    """One server process, from entry to exit.

    `env` is everything the server gets in its environment; `capabilities` is what the client
    declares, and `offers` the result of each method that the server may then ask for.
    `initialize` holds the server's answer to the handshake that entry performs, `notifications`
    and `asked` what arrived unasked since, `last_line` the newest answer as it arrived.
    """

    def __init__(
        self,
        command: list[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        capabilities: Mapping[str, Any] = {},
        offers: Mapping[str, Any] = {},
    ) -> None:
        self._command, self._env, self._cwd = command, dict(env), cwd
        self._capabilities, self._offers = dict(capabilities), dict(offers)
        self._incoming: queue.Queue[str | None] = queue.Queue()
        self._stderr: deque[str] = deque(maxlen=50)
        self._last_id = 0
        self.initialize: dict[str, Any] = {}
        self.notifications: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []
        self.last_line = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            env=self._env,
            cwd=self._cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._threads = [
            threading.Thread(target=self._read_messages),
            threading.Thread(target=self._read_stderr),
        ]
        for thread in self._threads:
            thread.start()
        try:
            self.initialize = self.request(
                "initialize",
                {
                    "protocolVersion": PROTOCOL_VERSION,
                    "capabilities": self._capabilities,
                    "clientInfo": {"name": "rawclient", "version": "0"},
                },
            )
            self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    def request(
        self, method: str, params: Mapping[str, Any] | None = None, *, timeout_s: float = 60
    ) -> dict[str, Any]:
        """The result of one request.

        Raises RemoteError, ServerGoneError, ValueError for a line that is no JSON, or queue.Empty
        after `timeout_s` without a message.
        """
        self._last_id += 1
        head = {"jsonrpc": "2.0", "id": self._last_id, "method": method}
        self._send({**head, "params": params or {}})
        while True:
            message = self._receive(timeout_s)
            if message.get("id") == self._last_id and "method" not in message:
                if "error" in message:
                    raise RemoteError(message["error"])
                result: dict[str, Any] = message["result"]
                return result
            self._take_unasked(message)

    def wait_for(self, method: str, *, timeout_s: float = 20) -> dict[str, Any]:
        """The first notification of `method` that arrived or arrives; raises queue.Empty."""
        give_up_at = time.monotonic() + timeout_s
        while True:
            for message in self.notifications:
                if message["method"] == method:
                    return message
            self._take_unasked(self._receive(give_up_at - time.monotonic()))

    def tools(self) -> list[dict[str, Any]]:
        """Every tool of the listing, over all its pages."""
        tools: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            page = self.request("tools/list", {"cursor": cursor} if cursor else None)
            tools += page["tools"]
            cursor = page.get("nextCursor")
            if cursor is None:
                return tools

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The result of one tool call, `isError` or not."""
        return self.request("tools/call", {"name": tool, "arguments": arguments})

    def close(self) -> None:
        """End the server: close its stdin, then TERM, then KILL, over all its descendants."""
        family = _family(self._process.pid)
        assert self._process.stdin is not None
        self._process.stdin.close()
        for end in (psutil.Process.terminate, psutil.Process.kill):
            family = wait_ended(family, timeout_s=5)
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    end(process)
        self._process.wait(5)
        for thread in self._threads:
            thread.join(5)
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ServerGoneError("\n".join(self._stderr)) from None

    def _receive(self, timeout_s: float) -> dict[str, Any]:
        line = self._incoming.get(timeout=max(0.0, timeout_s))
        if line is None:
            raise ServerGoneError("\n".join(self._stderr))
        try:
            message: dict[str, Any] = json.loads(line)
        except ValueError:
            raise ValueError(f"not a message: {line!r}") from None
        if "method" not in message:
            self.last_line = line.rstrip("\n")
        return message

    def _take_unasked(self, message: dict[str, Any]) -> None:
        if "method" not in message:
            return  # an answer that came after its request was given up
        if "id" not in message:
            self.notifications.append(message)
            return
        self.asked.append(message)
        answer: dict[str, Any]
        if message["method"] in self._offers:
            answer = {"result": self._offers[message["method"]]}
        else:
            answer = {"error": {"code": -32601, "message": "This client does not offer it"}}
        self._send({"jsonrpc": "2.0", "id": message["id"], **answer})

    def _read_messages(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._incoming.put(line)
        self._incoming.put(None)

    def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._stderr.append(line.rstrip("\n"))


def text_of(result: Mapping[str, Any]) -> str:
    """The text parts of a tool result, joined."""
    return "\n".join(part["text"] for part in result["content"] if part["type"] == "text")


def wait_ended(processes: list[psutil.Process], *, timeout_s: float) -> list[psutil.Process]:
    """Those that still live after at most `timeout_s`; one that waits to be reaped does not."""
    give_up_at = time.monotonic() + timeout_s
    while (living := [p for p in processes if _lives(p)]) and time.monotonic() < give_up_at:
        time.sleep(0.02)
    return living


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
