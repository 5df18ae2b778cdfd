"""The start-up cache: when it is used, and when it must not be."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from gateway.config import compiled

from .conftest import Project

SECRET = "hunter2-planted-secret"


@pytest.fixture
def cached(project: Project) -> Path:
    """A project whose configuration was loaded once: the file that was kept of it."""
    project.config("include: .mcp.json\nupstreams: {web: {command: web}}")
    project.write(".mcp.json", '{"mcpServers": {"db": {"command": "db"}}}')
    project.agent("backend", "mcp__web__fetch")
    assert not project.load().cached
    [path] = project.cache.iterdir()
    return path


def poison(path: Path) -> None:
    """Make the kept configuration start another program."""
    text = path.read_bytes()
    changed = text.replace(b"\xa3web", b"\xa3bad")
    assert changed != text
    path.write_bytes(changed)


class TestUse:
    def test_an_unchanged_configuration_loads_to_the_same_from_the_cache(
        self, project: Project, cached: Path
    ) -> None:
        again = project.load()
        assert again.cached
        cached.unlink()
        fresh = project.load()
        assert not fresh.cached
        assert msgspec.structs.replace(fresh, cached=True) == again

    def test_a_hit_imports_neither_pydantic_nor_yaml(self, project: Project, cached: Path) -> None:
        code = (
            "import sys\n"
            "from pathlib import Path\n"
            "from gateway.config.load import load\n"
            f"loaded = load(None, cwd=Path({str(project.root)!r}), trusted=True)\n"
            "heavy = ('pydantic', 'pydantic_core', 'yaml', 'asyncio', 'json', 'click')\n"
            "print(loaded.cached, [name for name in heavy if name in sys.modules])\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.stdout, done.stderr) == ("True []\n", "")

    @pytest.mark.parametrize(
        "change",
        [
            lambda p: p.config("include: .mcp.json\nupstreams: {web: {command: other}}"),
            lambda p: p.write(".mcp.json", '{"mcpServers": {"db": {"command": "other"}}}'),
            lambda p: p.agent("backend", "mcp__web__other"),
            lambda p: p.agent("another", "mcp__web__fetch"),
            lambda p: (p.root / ".claude/agents/backend.md").unlink(),
        ],
        ids=["config", "include", "agent", "new-agent", "removed-agent"],
    )
    def test_any_change_is_seen(self, project: Project, cached: Path, change: object) -> None:
        assert callable(change)
        before = project.load()
        change(project)
        after = project.load()
        assert not after.cached
        assert after.digest != before.digest
        assert project.load().cached

    def test_another_program_does_not_trust_it(
        self, project: Project, cached: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(compiled, "program_digest", lambda: "other")
        assert not project.load().cached

    def test_a_copy_of_the_project_has_its_own(
        self, project: Project, cached: Path, tmp_path: Path
    ) -> None:
        twin = Project(tmp_path / "twin", tmp_path / "cache")
        for name in ("gateway.yaml", ".mcp.json", ".claude/agents/backend.md"):
            twin.write(name, (project.root / name).read_text())
        loaded = twin.load()
        assert not loaded.cached
        assert loaded.settings.root == str(twin.root)
        assert loaded.digest == project.load().digest

    def test_a_configuration_with_mistakes_is_not_kept(self, project: Project) -> None:
        project.config("zzz: 1")
        with pytest.raises(Exception, match="zzz"):
            project.load()
        assert not project.cache.exists()

    def test_without_a_place_to_keep_it_loading_works(
        self, project: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        project.config("upstreams: {web: {command: web}}")
        monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/nowhere")
        assert not project.load().cached
        assert not project.load().cached


class TestPoisoning:
    def test_it_is_for_its_owner_only(self, project: Project, cached: Path) -> None:
        assert cached.stat().st_mode & 0o777 == 0o600
        assert cached.parent.stat().st_mode & 0o777 == 0o700
        assert cached.parent.parent.stat().st_mode & 0o777 == 0o700

    @pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
    def test_a_file_that_others_may_write_is_ignored(
        self, project: Project, cached: Path, mode: int
    ) -> None:
        poison(cached)
        cached.chmod(mode)
        loaded = project.load()
        assert not loaded.cached
        assert list(loaded.settings.upstreams) == ["web", "db"]
        # It was replaced by one that can be trusted.
        assert cached.stat().st_mode & 0o777 == 0o600
        assert project.load().cached

    @pytest.mark.parametrize("mode", [0o770, 0o707])
    @pytest.mark.parametrize("level", [0, 1], ids=["compiled", "above"])
    def test_a_directory_that_others_may_write_is_ignored(
        self, project: Project, cached: Path, mode: int, level: int
    ) -> None:
        poison(cached)
        cached.parents[level].chmod(mode)
        loaded = project.load()
        assert not loaded.cached
        assert list(loaded.settings.upstreams) == ["web", "db"]

    def test_links_are_not_followed(self, project: Project, cached: Path, tmp_path: Path) -> None:
        elsewhere = tmp_path / "elsewhere"
        poison(cached)
        cached.rename(elsewhere)
        cached.symlink_to(elsewhere)
        assert not project.load().cached
        cached.parent.rename(tmp_path / "moved")
        cached.parent.symlink_to(tmp_path / "moved")
        assert not project.load().cached

    @pytest.mark.parametrize(
        "content", [b"", b"\xc1", b"\x80", b"x" * 1000, b"\x91" * 100_000, None]
    )
    def test_a_corrupt_file_is_ignored_and_written_anew(
        self, project: Project, cached: Path, content: bytes | None
    ) -> None:
        whole = cached.read_bytes()
        cached.write_bytes(whole[:-20] if content is None else content)
        assert not project.load().cached
        assert project.load().cached

    def test_a_pipe_is_not_waited_for(self, project: Project, cached: Path) -> None:
        cached.unlink()
        os.mkfifo(cached, 0o600)
        assert not project.load().cached


class TestSecrets:
    def test_what_references_resolve_to_is_not_kept(
        self, project: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PLANTED", SECRET)
        secret_file = project.write("secret", SECRET)
        secret_file.chmod(0o600)
        project.config(
            """\
            upstreams:
              web: {command: web, args: ["${PLANTED}"], env: {API_KEY: "${file:secret}"}}
              api: {url: "http://h/${PLANTED}", headers: {A: "${exec:echo planted}"}}
            """
        )
        project.load()
        assert project.load().cached
        [path] = project.cache.iterdir()
        assert SECRET.encode() not in path.read_bytes()

    def test_a_configuration_with_a_plain_secret_is_not_kept(self, project: Project) -> None:
        project.config(f"upstreams: {{web: {{command: web, env: {{API_KEY: {SECRET}}}}}}}")
        project.load()
        assert not project.load().cached
        assert not project.cache.exists()
