"""What the fixture server serves as data: resources, prompts and their completions.

The names are those that the conformance suite asks for.
"""

import base64
import json
import re
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import mcp_types as types

Context = Any
"""The request context of the SDK's low-level server, whose generic arguments nobody here needs."""


def _png() -> bytes:
    """A picture of one red pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixel = zlib.compress(b"\0\xff\0\0")
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")
    )


def _wav() -> bytes:
    """Eight samples of silence."""
    samples = b"\x80" * 8
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8000, 8000, 1, 8)
    body = b"WAVE" + form + struct.pack("<4sI", b"data", len(samples)) + samples
    return struct.pack("<4sI", b"RIFF", len(body)) + body


PNG = base64.b64encode(_png()).decode()
WAV = base64.b64encode(_wav()).decode()
IMAGE = types.ImageContent(data=PNG, mime_type="image/png")

STATIC_TEXT = "test://static-text"
STATIC_BINARY = "test://static-binary"
WATCHED = "test://watched-resource"
TEMPLATE = "test://template/{id}/data"
_TEMPLATE_PATTERN = re.compile(r"test://template/([^/]+)/data")

RESOURCES = [
    types.Resource(
        uri=STATIC_TEXT, name="static-text", description="A fixed text", mime_type="text/plain"
    ),
    types.Resource(
        uri=STATIC_BINARY,
        name="static-binary",
        description="A picture of one pixel",
        mime_type="image/png",
    ),
    types.Resource(
        uri=WATCHED,
        name="watched-resource",
        description="A text that is announced as changed on request",
        mime_type="text/plain",
    ),
]
TEMPLATES = [
    types.ResourceTemplate(
        uri_template=TEMPLATE,
        name="template",
        description="Data for an id",
        mime_type="application/json",
    )
]


def resource(uri: str) -> types.ReadResourceResult | None:
    """The contents of a resource; None where there is none."""
    text, blob, kind = None, None, "text/plain"
    templated = _TEMPLATE_PATTERN.fullmatch(uri)
    if uri == STATIC_TEXT:
        text = "This is the content of the static text resource."
    elif uri == WATCHED:
        text = "Watched."
    elif uri == STATIC_BINARY:
        blob, kind = PNG, "image/png"
    elif templated is not None:
        number, kind = templated[1], "application/json"
        text = json.dumps({"id": number, "templateTest": True, "data": f"Data for ID: {number}"})
    else:
        return None
    if blob is not None:
        return types.ReadResourceResult(
            contents=[types.BlobResourceContents(uri=uri, mime_type=kind, blob=blob)]
        )
    return types.ReadResourceResult(
        contents=[types.TextResourceContents(uri=uri, mime_type=kind, text=text or "")]
    )


def embedded(uri: str, kind: str, text: str) -> types.EmbeddedResource:
    """A text resource as content."""
    return types.EmbeddedResource(
        resource=types.TextResourceContents(uri=uri, mime_type=kind, text=text)
    )


# --- prompts


def _argument(name: str, description: str) -> types.PromptArgument:
    return types.PromptArgument(name=name, description=description, required=True)


INPUT_PROMPT = "test_input_required_result_prompt"
PROMPTS = [
    types.Prompt(name="test_simple_prompt", description="A prompt without arguments"),
    types.Prompt(
        name="test_prompt_with_arguments",
        description="A prompt with two arguments",
        arguments=[
            _argument("arg1", "First test argument"),
            _argument("arg2", "Second test argument"),
        ],
    ),
    types.Prompt(
        name="test_prompt_with_embedded_resource",
        description="A prompt that embeds a resource",
        arguments=[_argument("resourceUri", "URI of the resource to embed")],
    ),
    types.Prompt(name="test_prompt_with_image", description="A prompt with a picture"),
    types.Prompt(name=INPUT_PROMPT, description="A prompt that asks for its context"),
]
CHANGING_PROMPT = types.Prompt(name="test_changing_prompt", description="Comes and goes on request")


def prompt(name: str, arguments: Mapping[str, str]) -> types.GetPromptResult | None:
    """A prompt that needs no more input; None where there is none of that name."""
    if name == "test_simple_prompt":
        return _messages(_text("This is a simple prompt for testing."))
    if name == "test_prompt_with_arguments":
        first, second = arguments.get("arg1", ""), arguments.get("arg2", "")
        return _messages(_text(f"Prompt with arguments: arg1='{first}', arg2='{second}'"))
    if name == "test_prompt_with_embedded_resource":
        content = embedded(
            arguments.get("resourceUri", ""), "text/plain", "Embedded resource content for testing."
        )
        return _messages(content, _text("Please process the embedded resource above."))
    if name == "test_prompt_with_image":
        return _messages(IMAGE, _text("Please analyze the image above."))
    if name == CHANGING_PROMPT.name:
        return _messages(_text("Here for now."))
    return None


def prompt_about(context: str) -> types.GetPromptResult:
    """The prompt that asked for its context, once it has it."""
    return _messages(_text(f"Use this context: {context}"))


_COMPLETIONS = ("paris", "park", "party", "test", "testing")


def completion(value: str) -> types.Completion:
    """What an argument that begins with `value` may be."""
    values = [word for word in _COMPLETIONS if word.startswith(value)]
    return types.Completion(values=values, total=len(values), has_more=False)


def _text(text: str) -> types.TextContent:
    return types.TextContent(text=text)


def _messages(
    *contents: types.TextContent | types.ImageContent | types.EmbeddedResource,
) -> types.GetPromptResult:
    messages = [types.PromptMessage(role="user", content=content) for content in contents]
    return types.GetPromptResult(messages=messages)
