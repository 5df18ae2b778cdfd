"""Agent definition files, read exactly as their client reads them or refused (pure)."""

from typing import TYPE_CHECKING

from gateway.agents.definition import AgentDefinition, Dialect, Finding, ToolPattern

if TYPE_CHECKING:
    from gateway.agents.reader import read_definition, read_definitions

__all__ = [
    "AgentDefinition",
    "Dialect",
    "Finding",
    "ToolPattern",
    "read_definition",
    "read_definitions",
]


def __getattr__(name: str) -> object:
    # The readers are wanted only when a file has changed, and a start is faster without them.
    if name in ("read_definition", "read_definitions"):
        from gateway.agents import reader

        return getattr(reader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
