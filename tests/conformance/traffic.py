"""The scripted traffic of the differential test: what a client sends to each server, in order."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Step = tuple[str, Mapping[str, Any] | None]
"""A method with its params; a notification where the method begins with `notifications/`."""


def call(tool: str, /, **arguments: Any) -> Step:
    """A tool call."""
    return "tools/call", {"name": tool, "arguments": arguments}


def with_meta(step: Step, /, **meta: Any) -> Step:
    """The same, with members of `_meta`."""
    return step[0], {**(step[1] or {}), "_meta": meta}


ODD_ARGUMENTS: Mapping[str, Any] = {
    "region": 'Zürich "east" \u2028 \U0001f600 </script> \\ \t',
    "priority": 12345678901234567890,
    "query": {"deep": [[[{"float": 0.1, "small": 1e-7, "nothing": None, "": [True, -0.5]}]]]},
    "~unknown/member": "kept",
}

FIXTURE: Sequence[Step] = (
    ("ping", None),
    ("tools/list", None),
    ("tools/list", {}),
    call("test_simple_text"),
    ("tools/call", {"name": "test_simple_text"}),
    call("test_image_content"),
    call("test_audio_content"),
    call("test_embedded_resource"),
    call("test_multiple_content_types"),
    call("test_error_handling"),
    call("test_custom_headers", **ODD_ARGUMENTS),
    with_meta(call("test_custom_headers"), traceparent="00-1-2-01", **{"x.y/z": [1, {"a": None}]}),
    with_meta(call("test_tool_with_progress"), progressToken="a token"),
    with_meta(call("test_tool_with_progress"), progressToken=0),
    call("test_tool_with_progress"),
    ("logging/setLevel", {"level": "debug"}),
    call("test_tool_with_logging"),
    call("test_sampling", prompt="Wie geht's?"),
    call("test_elicitation", message="Who are you?"),
    call("test_elicitation_sep1034_defaults"),
    call("test_elicitation_sep1330_enums"),
    call("test_missing_capability"),
    ("resources/list", None),
    ("resources/templates/list", None),
    ("resources/read", {"uri": "test://static-text"}),
    ("resources/read", {"uri": "test://static-binary"}),
    ("resources/read", {"uri": "test://template/%C3%BC/data"}),
    ("resources/read", {"uri": "test://no-such-thing"}),
    ("resources/subscribe", {"uri": "test://watched-resource"}),
    call("test_trigger_resource_update"),
    ("resources/unsubscribe", {"uri": "test://watched-resource"}),
    ("prompts/list", None),
    ("prompts/get", {"name": "test_simple_prompt"}),
    (
        "prompts/get",
        {"name": "test_prompt_with_arguments", "arguments": {"arg1": "ä", "arg2": "\u0000"}},
    ),
    ("prompts/get", {"name": "test_prompt_with_image"}),
    ("prompts/get", {"name": "no-such-prompt"}),
    (
        "completion/complete",
        {
            "ref": {"type": "ref/prompt", "name": "test_prompt_with_arguments"},
            "argument": {"name": "arg1", "value": "par"},
        },
    ),
    ("notifications/roots/list_changed", None),
    call("test_trigger_prompt_change"),
    ("prompts/list", None),
    call("test_trigger_tool_change"),
    call("test_simple_text"),
)

# Its dynamic resources hold the time of day and are left out.
EVERYTHING: Sequence[Step] = (
    ("tools/list", None),
    call("echo", message=ODD_ARGUMENTS["region"]),
    call("echo", message=12),
    call("get-annotated-message", messageType="error", includeImage=True),
    call("get-resource-links", count=4),
    call("get-structured-content", location="Chicago"),
    call("get-sum", a=0.1, b=0.2),
    call("get-tiny-image"),
    with_meta(call("trigger-long-running-operation", duration=0.2, steps=2), progressToken="p"),
    call("trigger-sampling-request", prompt="?", maxTokens=5),
    call("trigger-elicitation-request"),
    call("get-roots-list"),
    ("resources/list", None),
    ("resources/templates/list", None),
    ("resources/read", {"uri": "demo://resource/static/document/startup.md"}),
    ("resources/read", {"uri": "demo://resource/no-such-thing"}),
    ("prompts/list", None),
    ("prompts/get", {"name": "args-prompt", "arguments": {"city": "Köln"}}),
    ("prompts/get", {"name": "args-prompt"}),
    (
        "completion/complete",
        {
            "ref": {"type": "ref/prompt", "name": "completable-prompt"},
            "argument": {"name": "department", "value": "S"},
        },
    ),
)


def filesystem(folder: Path) -> Sequence[Step]:
    """Reads and writes below a folder that holds `notes.txt` and nothing else."""
    return (
        ("tools/list", None),
        call("list_allowed_directories"),
        call("read_text_file", path=str(folder / "notes.txt")),
        call("read_text_file", path="/etc/hostname"),
        call("read_text_file"),
        call("write_file", path=str(folder / "new ü.txt"), content="one\r\ntwo\n\u2028three"),
        call("read_multiple_files", paths=[str(folder / "notes.txt"), str(folder / "new ü.txt")]),
        call("list_directory", path=str(folder)),
        call("move_file", source=str(folder / "new ü.txt"), destination=str(folder / "old")),
        call("directory_tree", path=str(folder)),
        call("search_files", path=str(folder), pattern="*.txt"),
    )
