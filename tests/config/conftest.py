"""A project in a temporary repository, with nothing of the surroundings leaking in."""

import textwrap
from pathlib import Path

import pytest

from gateway.config.load import Loaded, load


class Project:
    """Files of a project, and the configuration loaded from them."""

    def __init__(self, root: Path, cache: Path) -> None:
        self.root = root
        self.cache = cache / "mcp-tool-gateway" / "compiled"

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def agent(self, name: str, tools: str) -> Path:
        return self.write(
            f".claude/agents/{name}.md",
            f"---\nname: {name}\ndescription: An agent.\ntools: {tools}\n---\nDo the work.\n",
        )

    def config(self, text: str) -> Path:
        return self.write("gateway.yaml", text)

    def load(self, path: Path | None = None, *, cwd: Path | None = None) -> Loaded:
        return load(path, cwd=cwd or self.root, trusted=True)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    cache = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.delenv("MCP_TOOL_GATEWAY_CONFIG", raising=False)
    root = tmp_path / "project"
    (root / ".git").mkdir(parents=True)
    return Project(root, cache)
