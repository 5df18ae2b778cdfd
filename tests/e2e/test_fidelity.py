"""What passes, passes as it is: sizes, bytes, flags, unknown fields; with real clients as well."""

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import mcp_types as types
import pytest
from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from tests.e2e.conftest import Open
from tests.e2e.http import HttpClient
from tests.e2e.inbox import call
from tests.e2e.world import World, peak_rss_kib
from tests.upstreams.canary import blob

HUGE_BYTES = 20 << 20


def raw_result(result: bytes) -> dict[str, object]:
    frame = b'{"jsonrpc":"2.0","id":@ID@,"result":' + result + b"}\n"
    return {"frames": [base64.b64encode(frame).decode()]}


def starts_with(head: bytes) -> Callable[[bytes], bool]:
    return lambda line: line.startswith(head)


@pytest.mark.parametrize("transport", ["stdio", "http"])
def test_a_huge_result_passes_byte_for_byte_in_little_memory(world: World, transport: str) -> None:
    world.canary()
    world.usual_agent()
    item = {"type": "image", "data": blob(HUGE_BYTES), "mimeType": "x/y"}
    expected = json.dumps({"content": [item]}).encode()
    if transport == "stdio":
        with world.connect() as client:
            client.open()
            client.call("echo")
            before = peak_rss_kib(client.process.pid)
            client.send(call(7, "huge", {"size": HUGE_BYTES}))
            line = client.first_line(lambda line: len(line) > HUGE_BYTES)
            assert line == b'{"jsonrpc":"2.0","id":7,"result":' + expected + b"}"
            world.wait_for(lambda: len(world.records(kind="outcome")) == 2)
            added_kib = peak_rss_kib(client.process.pid) - before
    else:
        with world.serve() as served, HttpClient(served.url()) as http_client:
            http_client.open()
            http_client.call("echo")
            before = peak_rss_kib(served.process.pid)
            response = http_client.post(call(7, "huge", {"size": HUGE_BYTES}))
            assert response.content == b'{"jsonrpc":"2.0","id":7,"result":' + expected + b"}"
            world.wait_for(lambda: len(world.records(kind="outcome")) == 2)
            added_kib = peak_rss_kib(served.process.pid) - before
    assert added_kib < 100 * 1024
    assert world.records(kind="outcome")[1]["result_size_bytes"] == len(expected)


def test_binary_passes_byte_for_byte(world: World) -> None:
    world.canary()
    world.usual_agent()
    with world.connect() as client:
        client.open()
        for size in (0, 1, 65_535, 65_536, 65_537, 1_000_000):
            data = base64.b64encode(os.urandom(size))
            result = b'{"content" : [{"type":"image","data":"' + data + b'"}], "isError":false}'
            client.send(call(size, "raw", raw_result(result)))
            expected = b'{"jsonrpc":"2.0","id":%d,"result":%b}' % (size, result)
            assert client.first_line(starts_with(expected[:30])) == expected


RESULTS = [
    '{"content":[{"type":"text","text":"a\u2028b\u2029c\u0085d\x7f"}]}'.encode(),
    b'{ "content" : [ ] , "isError" : false , "x" : { "b" : 1 , "a" : [ null , 1.50e+2 ] } }',
    rb'{"content":[],"text":"\u00e9\/\n\ud83d\ude00","number":123456789012345678901234567890}',
    b'{"content":[],"content":[],"a":1,"a":2}',
    b'"not even an object"',
    b"null",
]


def test_results_are_spliced_in_as_they_are(world: World, connect: Open) -> None:
    world.canary()
    world.usual_agent()
    with connect(world) as client:
        client.open()
        for number, result in enumerate(RESULTS):
            expected = b'{"jsonrpc":"2.0","id":%d,"result":%b}' % (number, result)
            if isinstance(client, HttpClient):
                assert client.post(call(number, "raw", raw_result(result))).content == expected
            else:
                client.send(call(number, "raw", raw_result(result)))
                assert client.first_line(starts_with(expected[:24])) == expected


def test_tool_errors_are_told_from_results_in_the_record(world: World) -> None:
    world.canary()
    world.usual_agent()
    with world.connect() as client:
        client.open()
        assert client.call("add", {"a": 2, "b": 3})["result"]["isError"] is False
        assert client.call("add", {"a": -2, "b": -3})["result"]["isError"] is True
        large = b'{"isError":true,"content":[{"type":"text","text":"' + b"x" * 100_000 + b'"}]}'
        client.call("raw", raw_result(large))
        inside = b'{"content":[{"isError":true}],"structuredContent":{"isError":true}}'
        client.call("raw", raw_result(inside))
        error = b'{"jsonrpc":"2.0","id":@ID@,"error":{"code":-32000,"message":"m","data":[1]}}\n'
        answer = client.call("raw", {"frames": [base64.b64encode(error).decode()]})
        assert answer["error"] == {"code": -32000, "message": "m", "data": [1]}
    outcomes = world.records(kind="outcome")
    assert sorted(record["status"] for record in outcomes) == [
        *("error", "ok", "ok", "tool_error", "tool_error")
    ]
    assert [record["error_code"] for record in outcomes if "error_code" in record] == [-32000]


def test_params_reach_the_upstream_with_all_they_hold(world: World, connect: Open) -> None:
    world.canary()
    world.usual_agent()
    arguments = {"text": '\u2028\u0000é😀"\\', "n": [0, -1, 1.5, 2**60, None, True], "": {"": []}}
    more = {"_meta": {"vendor/x": {"kept": [1]}}, "x-unknown": {"k": "v"}}
    with connect(world) as client:
        client.open()
        answer = client.call("echo", arguments, **more)
        assert answer["result"]["structuredContent"] == arguments
    assert world.calls()[-1]["params"] == {"name": "echo", "arguments": arguments, **more}


def test_listings_keep_what_the_gateway_does_not_know(world: World, connect: Open) -> None:
    world.canary(pages=4)
    world.usual_agent()
    with connect(world) as client:
        client.open()
        result = client.ask("tools/list")["result"]
    assert result["_meta"] == {"p": 0}
    assert len(result["tools"]) == 14
    for tool in result["tools"]:
        assert tool["x-vendor"] == {"kept": True}
        assert tool["_meta"] == {"vendor/of": tool["name"]}
        assert tool["inputSchema"]["x-unknown"] == {"kept": [1, None]}


class TestRealClient:
    """The official Python client, which checks what it is given against the protocol's schema."""

    @asynccontextmanager
    async def stdio(self, world: World) -> AsyncIterator[Client]:
        command, *args = world.argv("connect", "canary")
        parameters = StdioServerParameters(
            command=command, args=args, env=world.env, cwd=str(world.root)
        )
        async with Client(stdio_client(parameters), **self.handlers(), mode="legacy") as client:
            yield client

    @asynccontextmanager
    async def http(self, world: World) -> AsyncIterator[Client]:
        with world.serve() as served:
            transport = streamable_http_client(served.url())
            async with Client(transport, **self.handlers(), mode="legacy") as client:
                yield client

    def handlers(self) -> dict[str, Any]:
        self.logged: list[object] = []

        async def elicited(context: object, params: types.ElicitRequestParams) -> Any:
            return types.ElicitResult(action="accept", content={"name": params.message})

        async def rooted(context: object) -> Any:
            return types.ListRootsResult(roots=[types.Root(uri="file:///project")])

        async def logged(params: types.LoggingMessageNotificationParams) -> None:
            self.logged.append(params.data)

        return {
            "elicitation_callback": elicited,
            "list_roots_callback": rooted,
            "logging_callback": logged,
        }

    @pytest.mark.parametrize("transport", ["stdio", "http"])
    def test_lists_calls_and_is_asked(self, world: World, transport: str) -> None:
        world.canary()
        world.usual_agent()

        async def scenario() -> None:
            async with getattr(self, transport)(world) as client:
                names = [tool.name for tool in (await client.list_tools()).tools]
                assert "echo" in names
                assert "hidden" not in names
                echoed = await client.call_tool("echo", {"text": "x"})
                assert echoed.structured_content == {"text": "x"}
                refused = await client.call_tool("hidden", {})
                assert refused.is_error
                progressed: list[float] = []

                async def progress(done: float, total: float | None, text: str | None) -> None:
                    progressed.append(done)

                await client.call_tool("progress", {"steps": 3}, progress_callback=progress)
                assert progressed == [0, 1, 2]
                await client.call_tool("log", {})
                question = {
                    "method": "elicitation/create",
                    "params": {
                        "mode": "form",
                        "message": "who",
                        "requestedSchema": {
                            "type": "object",
                            "properties": {"name": {"type": "string"}},
                        },
                    },
                }
                answered = await client.call_tool("ask", question)
                assert '"name": "who"' in answered.content[0].text
                roots = await client.call_tool("ask", {"method": "roots/list"})
                assert "file:///project" in roots.content[0].text
                together = await asyncio.gather(
                    *(client.call_tool("echo", {"text": str(n)}) for n in range(50))
                )
                assert [one.structured_content["text"] for one in together] == [
                    str(n) for n in range(50)
                ]
                assert self.logged == ["hi"]

        asyncio.run(scenario())
