"""Goes through a gateway as a client does: start, list, be refused, find the refusal recorded."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from gateway.audit.calls import Filters
from gateway.audit.index import Index
from gateway.catalog.names import tool_id
from gateway.errors import UserError
from gateway.wire.methods import HANDSHAKE_REVISIONS

_ANSWER_S = 60.0
_END_S = 10.0
_LINE_BYTES = 64 * 1024 * 1024
_LAST_WORDS = 500


class Passage(msgspec.Struct, frozen=True):
    """How one way through the gateway went. `problem` is "" where all of it did as it should.

    `tools` are those that were listed; `recorded` is whether the refusal of a tool that does not
    exist was found in the audit log.
    """

    upstream: str
    tools: int = 0
    refused: bool = False
    recorded: bool = False
    problem: str = ""


async def pass_through(
    upstream: str, identity: Sequence[str], config: Path | None, audit: Path
) -> Passage:
    """Start `gateway connect UPSTREAM` with the `identity` options, as a client would.

    Lists the tools and calls one that nobody offers. `audit` is the directory of the audit log.
    """
    options = [] if config is None else ["-c", str(config)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "gateway", "connect", upstream, *identity, *options),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        limit=_LINE_BYTES,
    )
    try:
        async with asyncio.timeout(_ANSWER_S):
            name, passage = await _converse(process, upstream)
    except TimeoutError:
        return Passage(upstream, problem=f"no answer within {_ANSWER_S:g} s")
    except (ConnectionError, EOFError, ValueError):
        return Passage(upstream, problem=await _last_words(process))
    finally:
        await _end(process)
    if not passage.problem:
        recorded = _is_recorded(audit, tool_id(upstream, name))
        problem = "" if recorded else "the refusal of the self-test is not in the audit log"
        passage = msgspec.structs.replace(passage, recorded=recorded, problem=problem)
    return passage


async def _converse(process: Process, upstream: str) -> tuple[str, Passage]:
    name = f"self-test-{os.urandom(4).hex()}"
    hello = {
        "protocolVersion": HANDSHAKE_REVISIONS[-1],
        "capabilities": {},
        "clientInfo": {"name": "gateway doctor", "version": "1"},
    }
    answer = await _ask(process, 1, "initialize", hello)
    if "error" in answer:
        return name, Passage(upstream, problem=_message(answer["error"]))
    _say(process, {"method": "notifications/initialized"})
    listed = await _ask(process, 2, "tools/list", {})
    if "error" in listed:
        return name, Passage(upstream, problem=_message(listed["error"]))
    result = listed.get("result")
    tools = result.get("tools") if isinstance(result, dict) else None
    count = len(tools) if isinstance(tools, list) else 0
    called = await _ask(process, 3, "tools/call", {"name": name, "arguments": {}})
    result = called.get("result")
    refused = isinstance(result, dict) and result.get("isError") is True
    problem = "" if refused else "a tool that does not exist was not refused"
    return name, Passage(upstream, count, refused, problem=problem)


async def _ask(
    process: Process, identifier: int, method: str, params: Mapping[str, object]
) -> dict[str, object]:
    _say(process, {"id": identifier, "method": method, "params": params})
    while True:
        line = await _stream(process.stdout).readline()
        if not line:
            raise EOFError
        message = msgspec.json.decode(line)
        if isinstance(message, dict) and message.get("id") == identifier:
            return message


def _say(process: Process, message: Mapping[str, object]) -> None:
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode({"jsonrpc": "2.0", **message}) + b"\n")


def _stream(stream: asyncio.StreamReader | None) -> asyncio.StreamReader:
    assert stream is not None
    return stream


def _message(error: object) -> str:
    text = error.get("message") if isinstance(error, dict) else None
    return str(text)[:_LAST_WORDS]


async def _last_words(process: Process) -> str:
    with suppress(TimeoutError):
        async with asyncio.timeout(_END_S):
            text = (await _stream(process.stderr).read()).decode(errors="replace").strip()
            return text[-_LAST_WORDS:] or "it ended without a word"
    return "it closed the connection"


async def _end(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(_END_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _is_recorded(audit: Path, wanted: str) -> bool:
    try:
        with Index.open(audit) as index:
            index.refresh()
            return bool(index.calls(Filters(tool=wanted, decision="deny"), limit=1))
    except UserError:
        return False
