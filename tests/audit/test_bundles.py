"""A bundle proves to another person what the log proves, and no more."""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.audit.bundles import make_bundle
from gateway.audit.journal import Journal
from gateway.audit.notes import Signer
from gateway.audit.segments import SegmentLimits
from gateway.audit.signing_keys import create_key
from gateway.cli.audit import command
from gateway.errors import UserError
from tests.audit import independent
from tests.audit.samples import decision
from tests.audit.test_checkpoints import keys_of, write
from tests.audit.test_segments import fill


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def signer(log: Path) -> Signer:
    log.mkdir(mode=0o700)
    return create_key(log, "example.com/audit")


def bundled(log: Path, signer: Signer | None, name: str = "evidence.tar.gz") -> Path:
    path = log.parent / name
    make_bundle(log, path, program="1.2.3", signer=signer)
    return path


def verified(bundle: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command, ["verify", str(bundle), *arguments])


def changed(bundle: Path, name: str, data: bytes | None) -> Path:
    """The bundle with another file in place of `name`, or without it."""
    path = bundle.with_name("changed.tar")
    with tarfile.open(bundle) as source, tarfile.open(path, "w") as target:
        for member in source:
            file = source.extractfile(member)
            assert file is not None
            content: bytes | None = file.read()
            if member.name.endswith(name):
                content = data
            if content is not None:
                member.size = len(content)
                target.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("name", ["evidence.tar", "evidence.tar.gz", "evidence.tgz"])
def test_it_is_verified_without_the_log_and_without_the_key(
    log: Path, signer: Signer, name: str
) -> None:
    write(log, signer)
    journal = Journal.open(log, durability="process", segments=SegmentLimits(max_bytes=3000))
    fill(journal)
    journal.close()
    bundle = bundled(log, signer, name)
    keys = keys_of(log)
    assert b"PRIVATE" not in b"".join(independent.files_of(bundle).values())
    log.rename(log.with_name("gone"))
    result = verified(bundle, "--key", keys[0])
    assert result.exit_code == 0, result.output
    assert "The log is whole" in result.stdout
    assert "1 checkpoint verified" in result.stdout
    assert independent.verify(bundle, keys) == []


def test_whose_it_is_only_a_key_that_one_knows_can_tell(log: Path, signer: Signer) -> None:
    write(log, signer)
    bundle = bundled(log, signer)
    assert "proves nothing of who made it" in verified(bundle).stdout
    other = Signer.generate("example.com/audit").verifier().text()
    result = verified(bundle, "--key", other)
    assert "the manifest is signed by an unknown key" in result.stdout
    assert "No signed checkpoint was verified." in result.stdout


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        (".jsonl", None, "is in the manifest, but not in the bundle"),
        (".jsonl", b"", "is not the file that the manifest says"),
        ("manifest.note", None, "the manifest is not signed"),
        ("manifest.note", b"x\n\n\xe2\x80\x94 a AAAAAAA=\n", "it is over another manifest"),
    ],
)
def test_what_was_changed_in_it_is_told(
    log: Path, signer: Signer, name: str, data: bytes | None, told: str
) -> None:
    journal = Journal.open(log, durability="process")
    journal.append(decision())
    journal.close()
    result = verified(changed(bundled(log, signer), name, data))
    assert told in result.stdout
    assert result.exit_code == (0 if "not signed" in told else 1)


def test_what_is_no_bundle_is_refused(log: Path, signer: Signer, tmp_path: Path) -> None:
    write(log, signer)
    bundle = bundled(log, signer)
    for path, told in (
        (changed(bundle, "manifest.json", None), "it has no manifest"),
        (changed(bundle, "manifest.json", b"{}"), "it has no manifest"),
        (tmp_path / "text", "cannot be read as a bundle"),
        (tmp_path / "traversal.tar", "it has a member"),
    ):
        if path.name == "text":
            path.write_text("no tar")
        if path.name == "traversal.tar":
            with tarfile.open(path, "w") as tar:
                tar.addfile(tarfile.TarInfo("journal/../../evil.jsonl"), io.BytesIO())
        with pytest.raises(UserError, match=told):
            CliRunner().invoke(command, ["verify", str(path)], catch_exceptions=False)
    with pytest.raises(UserError, match="there already"):
        bundled(log, signer)


def test_a_log_that_is_written_meanwhile(log: Path, signer: Signer) -> None:
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from gateway.audit.journal import Journal\n"
        "from gateway.audit.segments import SegmentLimits\n"
        "from tests.audit.test_segments import fill\n"
        "for _ in range(8):\n"
        "    journal = Journal.open(Path(sys.argv[1]), durability='process',\n"
        "                           segments=SegmentLimits(max_bytes=60_000))\n"
        "    fill(journal, 400)\n"
    )
    write(log, signer)
    process = subprocess.Popen([sys.executable, "-c", code, str(log)])
    number = 0
    while process.poll() is None:
        bundle = bundled(log, signer, f"{number}.tar")
        result = verified(bundle, "--key", keys_of(log)[0])
        assert result.exit_code == 0, result.output
        number += 1
    assert process.returncode == 0
    assert number > 0


def test_an_unsigned_log_can_be_bundled_too(log: Path) -> None:
    log.mkdir(mode=0o700)
    journal = Journal.open(log, durability="process")
    journal.append(decision())
    result = verified(bundled(log, None))
    assert result.exit_code == 0
    assert "the manifest is not signed" in result.stdout
    assert "1 call under way" in result.stdout
    journal.close()
