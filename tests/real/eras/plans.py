"""The servers of the combinations: how each is started, and what a visit does there."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.conformance.subjects import REPOSITORY, StartError, end
from tests.real.eras.visit import Plan
from tests.real.installed import ROOT, node, python_client, server_script

_ONE_ERA = [sys.executable, "-m", "tests.real.eras.one_era"]
_FIXTURE = [sys.executable, "-m", "tests.conformance.fixture_server", "--stdio"]
_MCP1 = ROOT / "python/mcp1_server.py"
_EVERYTHING = "@modelcontextprotocol/server-everything/dist/index.js"

_TEXTS = {
    "call": "This is a simple text response",
    "progress_text": "Reported progress.",
    "log": "Logged three messages.",
    "resource": "static text",
    "prompt": "This is a simple prompt",
}
HANDSHAKE = Plan(
    call=("test_simple_text", {}),
    progress=("test_tool_with_progress", {}),
    log=("test_tool_with_logging", {}),
    asked=("test_elicitation", {"message": "Who?"}),
    sampled_by=("test_sampling", {"prompt": "What metal?"}),
    undeclared="test_image_content",
    resource="test://static-text",
    prompt="test_simple_prompt",
    form={"username": "Kettle", "email": "a@b.example"},
    sampled="Brass.",
    expected={**_TEXTS, "asked": "Kettle", "sampled_by": "LLM response: Brass."},
)
STATELESS = Plan(
    call=HANDSHAKE.call,
    progress=HANDSHAKE.progress,
    log=HANDSHAKE.log,
    asked=("test_input_required_result_elicitation", {}),
    sampled_by=("test_input_required_result_sampling", {}),
    undeclared=HANDSHAKE.undeclared,
    resource=HANDSHAKE.resource,
    prompt=HANDSHAKE.prompt,
    form={"name": "Kettle"},
    sampled="Brass.",
    expected={**_TEXTS, "asked": "Hello, Kettle!", "sampled_by": "Brass."},
)
MCP1 = Plan(
    call=("say", {"text": "hello"}),
    progress=("progress", {}),
    log=("log", {}),
    asked=("ask", {}),
    sampled_by=("sample", {}),
    undeclared="hidden",
    resource="mcp1://note",
    prompt="greet",
    form={"name": "Kettle"},
    sampled="Brass.",
    expected={
        "call": "hello",
        "progress_text": "progressed",
        "log": "logged",
        "asked": "accept: Kettle",
        "sampled_by": "Brass.",
        "resource": "A note.",
        "prompt": "Greet them.",
    },
)
EVERYTHING = Plan(
    call=("echo", {"message": "hello"}),
    progress=("trigger-long-running-operation", {"duration": 0.1, "steps": 2}),
    log=("toggle-simulated-logging", {}),
    asked=("trigger-elicitation-request", {}),
    sampled_by=("trigger-sampling-request", {"prompt": "What metal?", "maxTokens": 5}),
    undeclared="get-env",
    resource="demo://resource/static/document/startup.md",
    prompt="simple-prompt",
    form={"name": "Kettle"},
    sampled="Brass.",
    expected={
        "call": "Echo: hello",
        "progress_text": "operation completed",
        "log": "Started simulated",
        "asked": "Kettle",
        "sampled_by": "Brass.",
        "resource": "Startup",
        "prompt": "This is a simple prompt",
    },
)


@dataclass(frozen=True)
class Upstream:
    """A server of one era. `command` is None where `http_command` announces a URL instead."""

    name: str
    era: str
    plan: Plan
    command: Sequence[str] | None = None
    http_command: Sequence[str] | None = None


def upstreams() -> tuple[Upstream, ...]:
    """All of them; raises SetupMissingError."""
    mcp1 = [str(python_client()), str(_MCP1)]
    everything = [str(node()), str(server_script("newest", _EVERYTHING))]
    return (
        Upstream("mcp2-handshake-stdio", "handshake", HANDSHAKE, _before(_FIXTURE, "handshake")),
        Upstream("mcp2-stateless-stdio", "stateless", STATELESS, _before(_FIXTURE, "stateless")),
        Upstream("mcp1-stdio", "handshake", MCP1, mcp1),
        Upstream("typescript-stdio", "handshake", EVERYTHING, everything),
        Upstream(
            "mcp2-handshake-http",
            "handshake",
            HANDSHAKE,
            http_command=[*_ONE_ERA, "handshake", "--http"],
        ),
        Upstream(
            "mcp2-stateless-http",
            "stateless",
            STATELESS,
            http_command=[*_ONE_ERA, "stateless", "--http"],
        ),
        Upstream("mcp1-http", "handshake", MCP1, http_command=[*mcp1, "--http"]),
    )


def _before(command: Sequence[str], era: str) -> list[str]:
    return [*_ONE_ERA, era, "--stdio", *command]


@contextlib.contextmanager
def running(upstream: Upstream) -> Iterator[Mapping[str, Any]]:
    """The entry of an upstream as it stands in gateway.yaml, its server running where it must."""
    if upstream.command is not None:
        program, *arguments = upstream.command
        yield {"command": program, "args": arguments, "cwd": str(REPOSITORY)}
        return
    assert upstream.http_command is not None
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            upstream.http_command,
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield {"type": "http", "url": _announced(process, output.fileno())}
        finally:
            end(process)


def _announced(process: subprocess.Popen[bytes], output: int) -> str:
    give_up_at = time.monotonic() + 30
    while True:
        found = re.match(r"(http\S+)\n", os.pread(output, 4096, 0).decode())
        if found is not None:
            return found[1]
        if process.poll() is not None or time.monotonic() > give_up_at:
            raise StartError(f"{process.args!r} serves nothing")
        time.sleep(0.05)
