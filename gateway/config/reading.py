"""Reading a file whole, within a bound, and without being held up by what is no file."""

import os
import stat
from pathlib import Path


def read_regular(path: Path, max_bytes: int) -> tuple[bytes, os.stat_result]:
    """The first `max_bytes` + 1 bytes of a regular file, and its status; raises OSError."""
    try:
        with open(path, "rb", opener=_open) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise OSError(0, "Not a regular file")
            return file.read(max_bytes + 1), status
    except ValueError:
        raise OSError(0, "Not a possible file name") from None


def _open(path: str, flags: int) -> int:
    # Not blocking: opening a FIFO would wait for its writer.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
