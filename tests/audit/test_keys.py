import hmac
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.keys import Digester
from gateway.errors import UserError

_OPEN = """
import sys
from pathlib import Path
from gateway.audit.keys import Digester
sys.stdin.readline()
print(Digester.open(Path(sys.argv[1])).digest(b"same"))
"""


def test_processes_that_start_together_agree_on_one_key(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _OPEN, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    digests = {process.communicate()[0] for process in processes}
    assert digests == {Digester.open(tmp_path).digest(b"same") + "\n"}
    assert [path.name for path in tmp_path.iterdir()] == ["hmac.key"]


@given(st.binary(max_size=64), st.binary(max_size=300))
def test_a_digest_is_the_beginning_of_an_hmac_sha_256(key: bytes, data: bytes) -> None:
    expected = hmac.new(key, data, "sha256").hexdigest()[:32]
    assert Digester(key).digest(data) == Digester(key).digest(memoryview(data)) == expected


def test_a_key_longer_than_a_block_is_a_mistake_of_the_program() -> None:
    with pytest.raises(ValueError, match="block"):
        Digester(bytes(65))


def test_the_key_is_the_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Digester.open(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "hmac.key").stat().st_mode) == 0o600


def test_a_key_that_others_can_read_is_refused_with_the_remedy(tmp_path: Path) -> None:
    Digester.open(tmp_path)
    (tmp_path / "hmac.key").chmod(0o640)
    with pytest.raises(UserError, match="chmod 600"):
        Digester.open(tmp_path)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_the_wrong_size_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "hmac.key"
    path.touch(mode=0o600)
    path.write_bytes(b"x" * size)
    with pytest.raises(UserError, match="32 bytes"):
        Digester.open(tmp_path)


def test_a_missing_directory_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot use the key"):
        Digester.open(tmp_path / "missing")
