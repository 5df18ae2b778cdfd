"""Agent definition files, read exactly as their client reads them or refused (pure)."""

from gateway.agents.definition import AgentDefinition, Dialect, Finding, ToolPattern
from gateway.agents.reader import read_definition, read_definitions

__all__ = [
    "AgentDefinition",
    "Dialect",
    "Finding",
    "ToolPattern",
    "read_definition",
    "read_definitions",
]
