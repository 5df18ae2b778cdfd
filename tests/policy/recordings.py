"""Input schemas of real servers, as `tests/policy/recorded` has them; texts for models left out.

`python -m tests.real.recording` writes all but those of git, which no set-up installs: they are of
mcp-server-git 2026.10.19.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "recorded"

_TEXTS = ("description", "title")


def recorded(upstream: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Generation of the server -> tool -> input schema."""
    found: dict[str, dict[str, dict[str, Any]]] = json.loads(_file(upstream).read_text())
    return found


def record(upstream: str, generations: Mapping[str, Mapping[str, object]]) -> None:
    """Write what `schemas_of` found of each generation."""
    blocks = []
    for generation, schemas in generations.items():
        lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(schemas[name])}" for name in schemas)
        blocks.append(f"{json.dumps(generation)}: {{\n{lines}\n}}")
    _file(upstream).write_text("{{{}}}\n".format(",\n".join(blocks)))


def schemas_of(tools: Iterable[Mapping[str, Any]]) -> dict[str, object]:
    """The input schemas of a listing, as they are recorded."""
    return {tool["name"]: _silent(tool["inputSchema"]) for tool in tools}


def _silent(schema: object, *, names: bool = False) -> object:
    """Without texts; `names`: the keys are names of properties, not keywords."""
    if isinstance(schema, list):
        return [_silent(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _silent(value, names=key in ("properties", "$defs") and not names)
        for key, value in schema.items()
        if names or key not in _TEXTS
    }


def _file(upstream: str) -> Path:
    return FOLDER / f"{upstream}.json"
