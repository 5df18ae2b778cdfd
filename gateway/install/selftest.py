"""Goes the ways that a client goes: through the gateway to an upstream, and to the hook.

Nothing is called that exists, and nothing is changed. The refusals stay in the audit log.
"""

import asyncio
import os
import re
import shlex
import shutil
import subprocess
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from gateway.audit.calls import Filters
from gateway.audit.index import Index
from gateway.catalog.names import tool_id
from gateway.config.files import CONFIG_NAME
from gateway.errors import UserError
from gateway.install.program import Program
from gateway.wire.methods import LATEST_HANDSHAKE

_ANSWER_S = 40.0
_END_S = 10.0
_HOOK_S = 10.0
_LINE_BYTES = 64 * 1024 * 1024
_LAST_WORDS = 4000
_SESSION = "gateway-doctor"


class Passage(msgspec.Struct, frozen=True):
    """How the way to one upstream went. `problem` is "" where all of it did as it should."""

    upstream: str
    tools: int = 0
    problem: str = ""


class Trial(msgspec.Struct, frozen=True):
    """What is wrong with a hook, "" where nothing is; `started`: whether it was tried at all."""

    problem: str
    started: bool = True


async def pass_through(
    upstream: str, *, program: Program, config: Path | None, audit: Path, start_timeout_s: float
) -> Passage:
    """Start `gateway connect`, list the tools, and be refused one that does not exist.

    `audit` is the directory of the audit log, where the refusal has to be. `start_timeout_s` is how
    long the upstream may take.
    """
    options = [] if config is None else ["-c", str(config)]
    process = await asyncio.create_subprocess_exec(
        *program.absolute,
        # Whoever it is: a connection of many agents sees what any of them may use.
        *("connect", upstream, "--hook", *options),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        limit=_LINE_BYTES,
    )
    assert process.stderr is not None
    complaint = asyncio.ensure_future(process.stderr.read())
    name = f"self-test-{os.urandom(4).hex()}"
    try:
        async with asyncio.timeout(start_timeout_s + _ANSWER_S):
            passage = await _converse(process, upstream, name)
    except TimeoutError:
        return Passage(upstream, problem="the gateway gave no answer in time")
    except (OSError, EOFError, ValueError):
        return Passage(upstream, problem=await _last_words(complaint))
    finally:
        await _end(process)
        complaint.cancel()
    if not passage.problem and (problem := _unrecorded(audit, tool_id(upstream, name))):
        return Passage(upstream, problem=problem)
    return passage


def try_hook(command: str, root: Path, program: Program) -> Trial:
    """Have `command` told of a write that a hook must refuse in any mode, in the project `root`.

    What is not this program is not started: it may be whatever a project brings along.
    """
    try:
        argv = shlex.split(command)
    except ValueError as error:
        return Trial(f"cannot be started: {error}")
    found = shutil.which(argv[0])
    if found is None and not re.search(r"[$`~]", argv[0]):
        return Trial(f"cannot be started: there is no program {argv[0]!a}")
    own = program.absolute
    same = found is not None and Path(found).resolve() == Path(own[0]).resolve()
    if not same or argv[1 : len(own) + 1] != [*own[1:], "hook"]:
        return Trial("was not tried: it starts another program than this one", started=False)
    target = str(root / CONFIG_NAME)
    message = {
        "hook_event_name": "PreToolUse",
        "session_id": _SESSION,
        "cwd": str(root),
        "tool_name": "Write",
        "tool_input": {"file_path": target, "content": ""},
        "tool_use_id": f"{_SESSION}-{os.urandom(4).hex()}",
    }
    try:
        ended = subprocess.run(  # noqa: S603 - this very program
            [*own, *argv[len(own) :]],
            input=msgspec.json.encode(message),
            capture_output=True,
            timeout=_HOOK_S,
            check=False,
            cwd=root,
            env={**os.environ, "CLAUDE_PROJECT_DIR": str(root)},
        )
    except OSError as error:
        return Trial(f"cannot be started: {error.strerror}")
    except subprocess.TimeoutExpired:
        return Trial(f"does not answer within {_HOOK_S:g} s")
    if ended.returncode != 0:
        said = _tail(ended.stderr)
        return Trial(f"fails with exit code {ended.returncode}" + (f": {said}" if said else ""))
    return Trial(_judge(ended.stdout, target))


def _judge(answer: bytes, target: str) -> str:
    """Why the answer is not the refusal of a write to `target`."""
    if not answer:
        return f"lets {target} be changed: it does not find this project's configuration"
    try:
        output = msgspec.json.decode(answer, type=_Answer).hook_specific_output
    except ValueError:
        return "answers with something that the client does not understand"
    if output.permission_decision == "deny" and output.permission_decision_reason.startswith(
        target
    ):
        return ""
    return f"answers: {output.permission_decision_reason[:_LAST_WORDS]}"


class _Output(msgspec.Struct, frozen=True, rename="camel"):
    permission_decision: str
    permission_decision_reason: str


class _Answer(msgspec.Struct, frozen=True, rename="camel"):
    hook_specific_output: _Output


async def _converse(process: Process, upstream: str, name: str) -> Passage:
    hello = {
        "protocolVersion": LATEST_HANDSHAKE,
        "capabilities": {},
        "clientInfo": {"name": "gateway doctor", "version": "1"},
    }
    answer = await _ask(process, 1, "initialize", hello)
    if "error" in answer:
        return Passage(upstream, problem=_message(answer["error"]))
    _say(process, {"method": "notifications/initialized"})
    listed = await _ask(process, 2, "tools/list", {})
    if "error" in listed:
        return Passage(upstream, problem=_message(listed["error"]))
    result = listed.get("result")
    tools = result.get("tools") if isinstance(result, dict) else None
    count = len(tools) if isinstance(tools, list) else 0
    called = await _ask(process, 3, "tools/call", {"name": name, "arguments": {}})
    result = called.get("result")
    refused = isinstance(result, dict) and result.get("isError") is True
    return Passage(upstream, count, "" if refused else "a tool that does not exist was let through")


async def _ask(
    process: Process, identifier: int, method: str, params: Mapping[str, object]
) -> dict[str, object]:
    """The answer to a request; raises EOFError, OSError or ValueError where there is none."""
    _say(process, {"id": identifier, "method": method, "params": params})
    assert process.stdout is not None
    while line := await process.stdout.readline():
        message = msgspec.json.decode(line)
        if isinstance(message, dict) and message.get("id") == identifier:
            return message
    raise EOFError


def _say(process: Process, message: Mapping[str, object]) -> None:
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode({"jsonrpc": "2.0", **message}) + b"\n")


def _message(error: object) -> str:
    text = error.get("message") if isinstance(error, dict) else None
    return str(text)[:_LAST_WORDS]


async def _last_words(complaint: "asyncio.Future[bytes]") -> str:
    with suppress(TimeoutError):
        async with asyncio.timeout(_END_S):
            return _tail(await complaint) or "the gateway ended without a word"
    return "the gateway closed the connection"


def _tail(data: bytes) -> str:
    return data.decode(errors="replace").strip()[-_LAST_WORDS:]


async def _end(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(_END_S):
            # What is left of its output has to be read, or it may wait for that.
            assert process.stdout is not None
            while await process.stdout.read(_LINE_BYTES):
                pass
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _unrecorded(audit: Path, tool: str) -> str:
    """Why the audit log does not show that `tool` was refused; "" if it does."""
    try:
        with Index.open(audit) as index:
            index.refresh()
            found = index.calls(Filters(tool=tool, decision="deny"), limit=1)
    except UserError as error:
        return str(error)
    return "" if found else "the refusal of a tool that does not exist is not in the audit log"
