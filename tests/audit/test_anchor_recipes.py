"""The recipes of docs/audit.md for keeping checkpoints elsewhere, as they stand there."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.audit.anchors import CommandAnchor
from gateway.audit.checkpoint_files import read_checkpoints, read_kept
from gateway.audit.checkpoints import Checkpoints
from gateway.audit.files import checkpoints_file
from gateway.audit.notes import Signer
from gateway.audit.signing_keys import create_key
from gateway.documents import read_yaml
from tests.audit.test_checkpoints import report_on, write
from tests.real.postgres import Postgres

DOCS = Path(__file__).parents[2] / "docs" / "audit.md"


def recipe(program: str) -> list[str]:
    """The `command` in the docs that runs `program`."""
    for block in re.findall(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL):
        value = read_yaml(block, path=str(DOCS)).value
        assert isinstance(value, dict)
        for anchor in value.get("audit", {}).get("anchor", ()):
            if any(program in word for word in anchor.get("command", ())):
                return list(anchor["command"])
    raise AssertionError(f"the docs have no recipe with {program}")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "log").mkdir(mode=0o700)
    return tmp_path / "log"


@pytest.fixture
def signer(log: Path) -> Signer:
    return create_key(log, "example.com/audit")


def test_a_git_note(log: Path, signer: Signer, tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("there is no git here")
    repository = tmp_path / "anchors"
    identity = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.com"}
    env = {
        **identity,
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@example.com",
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
    }
    for arguments in (["init", "-q", "."], ["commit", "-q", "--allow-empty", "-m", "anchors"]):
        repository.mkdir(exist_ok=True)
        subprocess.run(["git", *arguments], cwd=repository, env=env, check=True)
    argv = tuple(word.replace("/srv/anchors", str(repository)) for word in recipe("git"))
    for _ in range(3):
        write(log, signer, anchors=[CommandAnchor(argv, tmp_path, env)])
    assert [kept.failed for kept in read_kept(checkpoints_file(log)) if kept.failed] == []
    shown = subprocess.run(
        ["git", "notes", "--ref=audit", "show"], cwd=repository, env=env, capture_output=True
    )
    anchored = tmp_path / "anchored"
    anchored.write_bytes(shown.stdout)
    assert len(read_checkpoints(anchored)) == 3
    checkpoints_file(log).unlink()
    assert report_on(log, anchored).findings == ()


@pytest.mark.real
def test_a_table_in_postgresql(log: Path, signer: Signer, tmp_path: Path) -> None:
    sql = re.search(r"```sql\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert sql is not None
    with Postgres() as postgres:
        with postgres.connect() as connection:
            connection.execute(sql[1].encode())
            connection.commit()
        words = [
            word.replace("postgresql://gateway@db/audit", postgres.dsn) for word in recipe("psql")
        ]
        anchor = CommandAnchor(tuple(words), tmp_path, {"PATH": "/usr/bin:/bin"})
        for _ in range(2):
            write(log, signer, anchors=[anchor])
        assert [kept.failed for kept in read_kept(checkpoints_file(log)) if kept.failed] == []
        with postgres.connect() as connection:
            notes = [note for (note,) in connection.execute("SELECT note FROM audit_anchor")]
    anchored = tmp_path / "anchored"
    anchored.write_text("\n".join(notes), encoding="utf-8")
    assert len(notes) == 2
    checkpoints_file(log).unlink()
    assert report_on(log, anchored).findings == ()
    assert isinstance(Checkpoints(log, [signer]), Checkpoints)
