"""The fixture server's tools: how they are listed and what each does in one round."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import mcp_types as types
from mcp.server.subscriptions import (
    PromptsListChanged,
    ResourceUpdated,
    SubscriptionBus,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from tests.conformance.fixture_content import IMAGE, WATCHED, WAV, Context, embedded
from tests.conformance.fixture_rounds import STEPS, rounds_result

_PAUSE_S = 0.05
_NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}}
_Arguments = Mapping[str, Any]
_Tool = Callable[[Context, _Arguments], Awaitable[types.CallToolResult]]


class Tools:
    """The tools of one server. `changed_tools` and `changed_prompts` say which list is changed."""

    def __init__(self, bus: SubscriptionBus) -> None:
        self._bus = bus
        self.changed_tools = False
        self.changed_prompts = False
        self._tools: dict[str, _Tool] = {
            **_PLAIN,
            "test_trigger_tool_change": self._change_tools,
            "test_trigger_prompt_change": self._change_prompts,
            "test_trigger_resource_update": self._update_resource,
        }

    def listing(self) -> list[types.Tool]:
        """Every tool, always in the same order."""
        names = [*self._tools, *STEPS]
        if self.changed_tools:
            names.append("test_changing_tool")
        return [_described(name) for name in names]

    def input_schema(self, name: str) -> Mapping[str, Any] | None:
        """The input schema of a tool, None where there is no such tool."""
        return _schema(name) if name in self._tools or name in STEPS else None

    async def call(
        self, context: Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult | types.InputRequiredResult:
        """One call; raises MCPError for an unknown tool."""
        rounds = rounds_result(params, context.session.client_capabilities)
        if rounds is not None:
            return rounds
        if params.name == "test_streaming_elicitation":
            return await _streaming_elicitation(context, params)
        if params.name == "test_changing_tool" and self.changed_tools:
            return _text("Here for now.")
        tool = self._tools.get(params.name)
        if tool is None:
            raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name}")
        return await tool(context, params.arguments or {})

    async def _change_tools(self, context: Context, _: _Arguments) -> types.CallToolResult:
        self.changed_tools = not self.changed_tools
        await self._bus.publish(ToolsListChanged())
        if _has_back_channel(context):
            await context.session.send_tool_list_changed()
        return _text("The list of tools changed.")

    async def _change_prompts(self, context: Context, _: _Arguments) -> types.CallToolResult:
        self.changed_prompts = not self.changed_prompts
        await self._bus.publish(PromptsListChanged())
        if _has_back_channel(context):
            await context.session.send_prompt_list_changed()
        return _text("The list of prompts changed.")

    async def _update_resource(self, context: Context, _: _Arguments) -> types.CallToolResult:
        await self._bus.publish(ResourceUpdated(uri=WATCHED))
        if _has_back_channel(context):
            await context.session.send_resource_updated(WATCHED)
        return _text("The watched resource changed.")


# --- content


async def _simple_text(_: Context, __: _Arguments) -> types.CallToolResult:
    return _text("This is a simple text response for testing.")


async def _image(_: Context, __: _Arguments) -> types.CallToolResult:
    return types.CallToolResult(content=[IMAGE])


async def _audio(_: Context, __: _Arguments) -> types.CallToolResult:
    return types.CallToolResult(content=[types.AudioContent(data=WAV, mime_type="audio/wav")])


async def _embedded(_: Context, __: _Arguments) -> types.CallToolResult:
    text = "This is an embedded resource content."
    return types.CallToolResult(content=[embedded("test://embedded-resource", "text/plain", text)])


async def _mixed(_: Context, __: _Arguments) -> types.CallToolResult:
    resource = embedded(
        "test://mixed-content-resource", "application/json", '{"test":"data","value":123}'
    )
    heading = types.TextContent(text="Multiple content types test:")
    return types.CallToolResult(content=[heading, IMAGE, resource])


async def _error(_: Context, __: _Arguments) -> types.CallToolResult:
    text = types.TextContent(text="This tool intentionally returns an error for testing")
    return types.CallToolResult(content=[text], is_error=True)


async def _echo(_: Context, arguments: _Arguments) -> types.CallToolResult:
    return _text(repr(sorted(arguments.items())))


async def _greet(_: Context, arguments: _Arguments) -> types.CallToolResult:
    return _text(f"Hello, {arguments.get('name', 'World')}!")


async def _slow_compute(_: Context, arguments: _Arguments) -> types.CallToolResult:
    """Without the tasks extension, which the SDK lacks, the call is answered when it is done."""
    await asyncio.sleep(min(float(arguments.get("seconds", 0)), _PAUSE_S))
    return _text("Computed.")


# --- notifications while the call runs


async def _logging(context: Context, _: _Arguments) -> types.CallToolResult:
    for number, text in enumerate(
        ("Tool execution started", "Tool processing data", "Tool execution completed")
    ):
        if number:
            await asyncio.sleep(_PAUSE_S)
        await context.session.send_log_message("info", text, related_request_id=context.request_id)
    return _text("Logged three messages.")


async def _progress(context: Context, _: _Arguments) -> types.CallToolResult:
    for progress in (0, 50, 100):
        if progress:
            await asyncio.sleep(_PAUSE_S)
        await context.session.report_progress(progress, 100)
    return _text("Reported progress.")


async def _reconnection(context: Context, _: _Arguments) -> types.CallToolResult:
    if context.close_sse_stream is not None:
        await asyncio.sleep(_PAUSE_S)  # the SDK starts writing the stream only after the call
        await context.close_sse_stream()
    await asyncio.sleep(2 * _PAUSE_S)
    return _text("Answered after the stream was closed.")


# --- requests to the client


async def _sampling(context: Context, arguments: _Arguments) -> types.CallToolResult:
    question = types.TextContent(text=str(arguments.get("prompt", "")))
    request = types.CreateMessageRequest(
        params=types.CreateMessageRequestParams(
            messages=[types.SamplingMessage(role="user", content=question)], max_tokens=100
        )
    )
    answer = await context.session.send_request(
        request, types.CreateMessageResult, metadata=_belongs_to(context)
    )
    return _text(f"LLM response: {answer.content.text}")


async def _elicitation(context: Context, arguments: _Arguments) -> types.CallToolResult:
    schema = _object(
        {
            "username": {"type": "string", "description": "User's response"},
            "email": {"type": "string", "description": "User's email address"},
        },
        required=["username", "email"],
    )
    answer = await _elicit(context, str(arguments.get("message", "")), schema)
    return _text(f"User response: action={answer.action}, content={answer.content}")


async def _elicitation_defaults(context: Context, _: _Arguments) -> types.CallToolResult:
    schema = _object(
        {
            "name": {"type": "string", "default": "John Doe"},
            "age": {"type": "integer", "default": 30},
            "score": {"type": "number", "default": 95.5},
            "status": {
                "type": "string",
                "enum": ["active", "inactive", "pending"],
                "default": "active",
            },
            "verified": {"type": "boolean", "default": True},
        }
    )
    answer = await _elicit(context, "Please review the defaults", schema)
    return _text(f"Elicitation completed: action={answer.action}, content={answer.content}")


async def _elicitation_enums(context: Context, _: _Arguments) -> types.CallToolResult:
    options = ["option1", "option2", "option3"]
    titled = [
        {"const": f"value{n}", "title": f"{word} Option"}
        for n, word in enumerate(("First", "Second", "Third"), 1)
    ]
    schema = _object(
        {
            "untitledSingle": {"type": "string", "enum": options},
            "titledSingle": {"type": "string", "oneOf": titled},
            "legacyEnum": {
                "type": "string",
                "enum": ["opt1", "opt2", "opt3"],
                "enumNames": ["Option One", "Option Two", "Option Three"],
            },
            "untitledMulti": {"type": "array", "items": {"type": "string", "enum": options}},
            "titledMulti": {"type": "array", "items": {"anyOf": titled}},
        }
    )
    answer = await _elicit(context, "Please choose", schema)
    return _text(f"Elicitation completed: action={answer.action}, content={answer.content}")


async def _streaming_elicitation(
    context: Context, params: types.CallToolRequestParams
) -> types.CallToolResult | types.InputRequiredResult:
    """Progress on the response's stream, then the question as its result, never as a request."""
    await context.session.report_progress(1, 2)
    rounds = rounds_result(
        params.model_copy(update={"name": "test_input_required_result_elicitation"}),
        context.session.client_capabilities,
    )
    assert rounds is not None
    return rounds


async def _missing_capability(context: Context, _: _Arguments) -> types.CallToolResult:
    declared = context.session.client_capabilities
    if declared is None or declared.sampling is None:
        raise MCPError(
            types.MISSING_REQUIRED_CLIENT_CAPABILITY,
            "This tool needs the sampling capability",
            data={"requiredCapabilities": {"sampling": {}}},
        )
    return _text("The client declared sampling.")


_PLAIN: Mapping[str, _Tool] = {
    "test_simple_text": _simple_text,
    "test_image_content": _image,
    "test_audio_content": _audio,
    "test_embedded_resource": _embedded,
    "test_multiple_content_types": _mixed,
    "test_error_handling": _error,
    "test_tool_with_logging": _logging,
    "test_logging_tool": _logging,
    "test_tool_with_progress": _progress,
    "test_reconnection": _reconnection,
    "test_sampling": _sampling,
    "test_elicitation": _elicitation,
    "test_elicitation_sep1034_defaults": _elicitation_defaults,
    "test_elicitation_sep1330_enums": _elicitation_enums,
    "test_streaming_elicitation": _simple_text,  # listed here, answered in Tools.call
    "test_missing_capability": _missing_capability,
    "greet": _greet,
    "slow_compute": _slow_compute,
    "test_custom_headers": _echo,
    "json_schema_2020_12_tool": _echo,
}


# --- how they are listed


def _described(name: str) -> types.Tool:
    return types.Tool(name=name, description=f"Fixture: {name}", input_schema=_schema(name))


def _schema(name: str) -> dict[str, Any]:
    return _SCHEMAS.get(name, _NO_ARGUMENTS)


def _object(properties: Mapping[str, Any], *, required: list[str] | None = None) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "required": required or []}


_SCHEMAS: Mapping[str, dict[str, Any]] = {
    "test_sampling": _object({"prompt": {"type": "string"}}, required=["prompt"]),
    "test_elicitation": _object({"message": {"type": "string"}}, required=["message"]),
    "greet": _object({"name": {"type": "string"}}),
    "slow_compute": _object({"seconds": {"type": "number"}, "label": {"type": "string"}}),
    "test_custom_headers": _object(
        {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "priority": {"type": "integer", "x-mcp-header": "Priority"},
            "query": {"type": "string"},
        }
    ),
    "json_schema_2020_12_tool": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
            }
        },
        "properties": {
            "name": {"type": "string"},
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": {"type": "string"},
            "email": {"type": "string"},
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": False,
    },
}


def _text(text: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=text)])


def _belongs_to(context: Context) -> ServerMessageMetadata:
    return ServerMessageMetadata(related_request_id=context.request_id)


def _has_back_channel(context: Context) -> bool:
    """Whether the client hears of changes without asking, as it does before 2026-07-28."""
    return context.protocol_version not in MODERN_PROTOCOL_VERSIONS


async def _elicit(context: Context, message: str, schema: dict[str, Any]) -> types.ElicitResult:
    result: types.ElicitResult = await context.session.elicit_form(
        message, schema, related_request_id=context.request_id
    )
    return result
