"""The files that a journal consists of: when one is followed by the next, and how it is packed.

A segment that is full is sealed and compressed beside the running gateway. Both forms say the same
bytes. A kill at any point leaves at least one of them whole: the plain file goes only after the
compressed one is on the disk and was read back.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from gateway.audit.files import COMPRESSED, PLAIN

_CHUNK_BYTES: Final = 256 * 1024
_LEVEL: Final = 6
_UNFINISHED: Final = ".packing"


class SegmentLimits(msgspec.Struct, frozen=True, kw_only=True):
    """When a segment is followed by the next one."""

    max_bytes: int = 64 * 1024 * 1024
    max_age_s: float = 86_400.0


DEFAULT_LIMITS: Final = SegmentLimits()


def compress(path: Path) -> Path:
    """Put the compressed form in the place of a plain segment that nothing is added to any more.

    Does nothing where that is so already. Raises OSError when it cannot be done, and leaves the
    plain file then.
    """
    import zlib

    packed = path.with_name(path.name.removesuffix(PLAIN) + COMPRESSED)
    beside = packed.with_name(f"{packed.name}{_UNFINISHED}")
    if not path.exists() and packed.exists():
        return packed
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(beside, flags, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as target:
            # A gzip header without a name or a time: the same bytes pack to the same file.
            packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31)
            plain = sha256()
            for chunk in _chunks(path):
                plain.update(chunk)
                target.write(packer.compress(chunk))
            target.write(packer.flush())
            target.flush()
            os.fsync(target.fileno())
        if _unpacked_digest(beside) != plain.digest():
            raise OSError(f"{beside} does not say what {path} does")
        beside.replace(packed)
        _sync_directory(path.parent)
        path.unlink()
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
    return packed


def compress_aside(path: Path) -> None:
    """Compress a segment in a thread. A failure leaves it as it is."""
    from threading import Thread

    def work() -> None:
        with suppress(OSError):
            compress(path)

    Thread(target=work, name="audit-compress", daemon=True).start()


def _unpacked_digest(path: Path) -> bytes:
    import zlib

    unpacker = zlib.decompressobj(31)
    whole = sha256()
    for chunk in _chunks(path):
        whole.update(unpacker.decompress(chunk))
    whole.update(unpacker.flush())
    return whole.digest() if unpacker.eof else b""


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _sync_directory(directory: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
