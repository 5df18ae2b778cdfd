"""The canary upstreams of one test: their entries, and what has reached them."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_CANARY = Path(__file__).parents[2] / "upstreams/canary.py"


class Canary:
    """One canary: `entry` starts it, as in `.mcp.json`. It appends what it receives to `log`."""

    def __init__(self, root: Path, name: str = "canary", tools: Mapping[str, Any] = {}) -> None:
        """`tools`: annotations of each tool; none means the canary's own tools."""
        self.log, script = root / f"{name}.received", root / f"{name}.script"
        settings: dict[str, Any] = {"name": name}
        if tools:
            settings["tools"] = [_tool(tool, tools[tool]) for tool in tools]
        script.write_text(json.dumps(settings))
        self.entry = {
            "command": sys.executable,
            "args": ["-I", "-S", str(_CANARY)],
            "env": {"CANARY_LOG": str(self.log), "CANARY_SCRIPT": str(script)},
        }

    def received(self, method: str) -> list[dict[str, Any]]:
        """The parameters of the requests of one method, in their order."""
        return [entry["params"] for entry in self.logged() if entry.get("method") == method]

    def logged(self) -> list[dict[str, Any]]:
        """The log's entries: the messages as they came, and what a test adds."""
        lines = self.log.read_bytes().splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines]

    @property
    def started(self) -> bool:
        """Whether it has ever run."""
        return self.log.exists()

    @property
    def calls(self) -> list[tuple[str, Any]]:
        """Tool and arguments of each call that has reached it."""
        return [(call["name"], call["arguments"]) for call in self.received("tools/call")]


def _tool(name: str, annotations: object) -> dict[str, Any]:
    return {"name": name, "inputSchema": {"type": "object"}, "annotations": annotations}
