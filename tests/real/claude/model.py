"""A stub of the Messages API on loopback: it answers by a script and notes what was asked.

The script says, for each agent, what the model answers turn by turn: text, or uses of tools. Whose
turn it is shows in the system text, which holds the body of a subagent's file: `marker` makes the
word that stands there. Everything else that the client asks for (titles, token counts,
probes) gets the plainest answer there is.
"""

import json
import re
import secrets
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

MAIN = ""
"""The name of the main thread in scripts and requests."""


@dataclass(frozen=True)
class Text:
    """The model says something."""

    text: str


@dataclass(frozen=True)
class Use:
    """The model uses a tool."""

    tool: str
    arguments: Mapping[str, Any]


Block = Text | Use
Answer = Sequence[Block]
DONE: Answer = (Text("done"),)


def marker(agent: str) -> str:
    """The word in the body of an agent's file that tells its requests from others."""
    return f"<<agent {agent}>>"


_MARKED = re.compile("<<agent ([^>]+)>>")


def spawn(agent: str) -> Use:
    """The main thread starts a subagent and waits for it; several in one answer run in parallel.

    The prompt has the marker as well, for the built-in agents, which have no file.
    """
    task = {"description": f"run {agent}", "prompt": marker(agent), "subagent_type": agent}
    return Use("Agent", {**task, "run_in_background": False})


@dataclass(frozen=True)
class ToolResult:
    """What came back to the model for one use of a tool."""

    use: Use
    id: str
    text: str
    is_error: bool


@dataclass(frozen=True)
class ModelRequest:
    """One request for the model's next answer."""

    agent: str
    system: str
    messages: Sequence[Mapping[str, Any]]
    tools: tuple[str, ...]
    """The names of the tools that the client offers here: what it thinks this agent may use."""

    @property
    def turn(self) -> int:
        """How many answers this conversation has had so far."""
        return sum(message["role"] == "assistant" for message in self.messages)

    @property
    def results(self) -> list[ToolResult]:
        """The results of the tools that the newest answer used."""
        uses: dict[str, Use] = {}
        results: list[ToolResult] = []
        for message in self.messages:
            blocks = _blocks(message["content"])
            if message["role"] == "assistant":
                used = [block for block in blocks if block["type"] == "tool_use"]
                uses = {block["id"]: Use(block["name"], block["input"]) for block in used}
                results = []
            else:
                results += [_result(b, uses) for b in blocks if b["type"] == "tool_result"]
        return results


Script = Callable[[ModelRequest], Answer]


def turns(script: Mapping[str, Sequence[Answer]]) -> Script:
    """A script that gives each agent its answers one after the other, and then says it is done."""

    def answer(request: ModelRequest) -> Answer:
        answers = script.get(request.agent, ())
        return answers[request.turn] if request.turn < len(answers) else DONE

    return answer


class Model:
    """The stub, from entry to exit. `requests` has those for answers of agents, in their order.

    Leaving it raises what went wrong in the script meanwhile.
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self.requests: list[ModelRequest] = []
        self.failures: list[Exception] = []

    def __enter__(self) -> Self:
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        if self.failures:
            raise ExceptionGroup("the model's script failed", self.failures) from error

    @property
    def url(self) -> str:
        """For `ANTHROPIC_BASE_URL`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def asked(self, agent: str) -> list[ModelRequest]:
        """The requests of one agent, in order."""
        return [request for request in self.requests if request.agent == agent]

    def tools(self, agent: str) -> set[str]:
        """All the tools that the client offered to an agent."""
        return {tool for request in self.asked(agent) for tool in request.tools}

    def results(self, agent: str) -> list[ToolResult]:
        """All the results that came back to an agent."""
        return [result for request in self.asked(agent) for result in request.results]

    def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The message that answers one request."""
        request = _read(body)
        if request is None:
            return _message([_content(Text("A title"))])
        blocks = self._script(request)
        self.requests.append(request)
        return _message([_content(block) for block in blocks])


class _Server(ThreadingHTTPServer):
    def __init__(self, model: Model) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.model = model

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exception()
        if isinstance(error, Exception) and not isinstance(error, ConnectionError):
            self.model.failures.append(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    timeout = 10  # of idle connections, which the server would wait for at its end

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = urlsplit(self.path).path
        if path == "/v1/messages/count_tokens":
            self._send("application/json", json.dumps({"input_tokens": 1}))
        elif path != "/v1/messages":
            self._send("application/json", "{}", status=404)
        elif body.get("stream"):
            self._send("text/event-stream", _events(self.server.model.answer(body)))
        else:
            self._send("application/json", json.dumps(self.server.model.answer(body)))

    def do_GET(self) -> None:
        self._send("application/json", "{}", status=404)

    def do_HEAD(self) -> None:
        self._send("application/json", "")

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def _send(self, content_type: str, text: str, status: int = 200) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _read(body: Mapping[str, Any]) -> ModelRequest | None:
    """The request, None for one that is not for an agent's next answer."""
    system = _text(body.get("system", ""))
    messages = body["messages"]
    tools = tuple(tool["name"] for tool in body.get("tools", ()))
    marked = _MARKED.search(system) or _MARKED.search(_text(messages[0]["content"]))
    if marked is None and not tools:
        return None
    return ModelRequest(marked[1] if marked else MAIN, system, messages, tools)


def _content(block: Block) -> dict[str, Any]:
    if isinstance(block, Text):
        return {"type": "text", "text": block.text}
    used = {"name": block.tool, "input": dict(block.arguments)}
    return {"type": "tool_use", "id": _new_id("toolu"), **used}


def _message(content: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    uses = any(block["type"] == "tool_use" for block in content)
    return {
        "id": _new_id("msg"),  # the client joins messages of one id
        "type": "message",
        "role": "assistant",
        "model": "stub",
        "content": list(content),
        "stop_reason": "tool_use" if uses else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }


def _new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(12)}"


def _events(message: Mapping[str, Any]) -> str:
    """The message as the events that it is streamed in."""
    opening = {**message, "content": [], "stop_reason": None}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": opening}]
    for index, block in enumerate(message["content"]):
        if block["type"] == "text":
            start: dict[str, Any] = {**block, "text": ""}
            delta = {"type": "text_delta", "text": block["text"]}
        else:
            start = {**block, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        events += [
            {"type": "content_block_start", "index": index, "content_block": start},
            {"type": "content_block_delta", "index": index, "delta": delta},
            {"type": "content_block_stop", "index": index},
        ]
    ending = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    events.append({"type": "message_delta", "delta": ending, "usage": {"output_tokens": 1}})
    events.append({"type": "message_stop"})
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)


def _blocks(content: str | Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _text(content: str | Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(block.get("text", "") for block in _blocks(content))


def _result(block: Mapping[str, Any], uses: Mapping[str, Use]) -> ToolResult:
    used = block["tool_use_id"]
    error = bool(block.get("is_error"))
    return ToolResult(uses[used], used, _text(block.get("content", "")), error)
