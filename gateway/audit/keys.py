"""Keyed digests of arguments and results: a plain hash of a short secret is the secret."""

import os
import stat
from hashlib import sha256
from pathlib import Path
from typing import Final

from gateway.audit.files import key_file
from gateway.errors import UserError

KEY_SIZE_BYTES: Final = 32
DIGEST_HEX_CHARS: Final = 32  # 128 bit
_ID_CHARS: Final = 12
_BLOCK_BYTES: Final = 64  # of SHA-256
_INNER_PAD: Final = int.from_bytes(b"\x36" * _BLOCK_BYTES, "big")
_OUTER_PAD: Final = int.from_bytes(b"\x5c" * _BLOCK_BYTES, "big")


class Digester:
    """HMAC-SHA256 under the key of one audit directory, cut to 128 bit."""

    def __init__(self, key: bytes) -> None:
        if len(key) > _BLOCK_BYTES:
            raise ValueError("the key is longer than a block")
        # RFC 2104 by its two halves, each prepared once: half the time of `hmac` for a small text.
        block = int.from_bytes(key.ljust(_BLOCK_BYTES, b"\0"), "big")
        self._inner = sha256((block ^ _INNER_PAD).to_bytes(_BLOCK_BYTES, "big"))
        self._outer = sha256((block ^ _OUTER_PAD).to_bytes(_BLOCK_BYTES, "big"))

    @classmethod
    def open(cls, directory: Path) -> "Digester":
        """The digester of the audit directory `directory`, which exists.

        The first process of many makes the key. Raises UserError when the key cannot be made or
        read, has the wrong size, or is not the owner's alone.
        """
        path = key_file(directory)
        try:
            if not path.exists():
                _make_key(path)
            return cls(_read_key(path))
        except OSError as error:
            raise UserError(
                f"cannot use the key of the audit log: {error.strerror}; "
                "its directory must be yours and on a file system with hard links",
                path=str(path),
            ) from error

    def digest(self, data: bytes | memoryview) -> str:
        """The digest of `data`, 32 hex characters."""
        inner = self._inner.copy()
        inner.update(data)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.hexdigest()[:DIGEST_HEX_CHARS]


def directory_id(directory: Path) -> str:
    """What tells the audit directory `directory` from those of other machines and users.

    Another one once its key is replaced. Raises UserError as `Digester.open`.
    """
    path = key_file(directory)
    try:
        if not path.exists():
            _make_key(path)
        return sha256(b"directory\0" + _read_key(path)).hexdigest()[:_ID_CHARS]
    except OSError as error:
        raise UserError(
            f"cannot use the key of the audit log: {error.strerror}", path=str(path)
        ) from error


def _make_key(path: Path) -> None:
    """Put a new key at `path` unless another process does so first.

    It is written beside and linked into place, so that nobody ever reads half a key.
    """
    beside = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(KEY_SIZE_BYTES))
            file.flush()
            os.fsync(descriptor)
        try:
            path.hardlink_to(beside)
        except FileExistsError:
            return
    finally:
        beside.unlink()


def _read_key(path: Path) -> bytes:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        key = file.read(KEY_SIZE_BYTES + 1)
    if os.name == "posix":
        if status.st_uid not in (os.geteuid(), 0) and os.geteuid() != 0:
            raise UserError(
                "the key of the audit log belongs to another user; use an audit directory of "
                "your own",
                path=str(path),
            )
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise UserError(
                "other users can read the key of the audit log; run `chmod 600` on it, or delete "
                "it for a new one (older digests can then no longer be compared with newer ones)",
                path=str(path),
            )
    if len(key) != KEY_SIZE_BYTES:
        raise UserError(
            f"the key of the audit log is not {KEY_SIZE_BYTES} bytes long; delete it for a new one "
            "(older digests can then no longer be compared with newer ones)",
            path=str(path),
        )
    return key
