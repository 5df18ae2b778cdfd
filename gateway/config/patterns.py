"""How rules of policy files are named, and how they name agents and tools."""

from typing import Annotated, Any

from pydantic import Field

from gateway.config import model

_NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_PATTERN = r"mcp__[A-Za-z0-9_*-]+|\*"
_AGENT = r"[^\x00-\x1f]{1,256}"

Name = Annotated[
    str,
    Field(json_schema_extra={"pattern": f"^{_NAME}$"}),
    model.written(_NAME, "must be letters, digits, dots, dashes and underscores, at most 64."),
]
AgentPattern = Annotated[str, model.written(_AGENT, "must be a name of agents, with * in it.")]
ToolPattern = Annotated[
    str,
    model.written(_PATTERN, "must be a tool id, mcp__UPSTREAM__TOOL, with * for any text."),
]


def tool_ids() -> tuple[Any, ...]:
    """What makes a list of tool patterns of a single one, and tells editors so."""
    return model.one_or_more({"type": "string", "pattern": rf"^(?:{_PATTERN})$"})
