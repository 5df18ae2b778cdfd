"""Files changed whole or not at all, with links, modes and owners kept."""

import contextlib
import hashlib
import os
import stat
from pathlib import Path

from gateway.config.reading import read_regular
from gateway.errors import UserError
from gateway.state import sync_directory

MAX_FILE_BYTES = 64 * 1024 * 1024
PRIVATE = 0o600


def digest_of(data: bytes | None) -> str | None:
    """SHA-256 in hex; None for a file that does not exist."""
    return None if data is None else hashlib.sha256(data).hexdigest()


class Disk:
    """What init does to the file system, one step a method. Errors are UserErrors."""

    def read(self, path: Path) -> bytes | None:
        """The bytes of a file, None where there is none."""
        try:
            data, _ = read_regular(path, MAX_FILE_BYTES)
        except FileNotFoundError:
            if path.is_symlink():
                raise UserError("is a link that leads nowhere; mend it", path=str(path)) from None
            return None
        except NotADirectoryError:
            return None
        except OSError as error:
            raise UserError(f"cannot be read: {error.strerror}", path=str(path)) from None
        if len(data) > MAX_FILE_BYTES:
            raise UserError(f"is larger than {MAX_FILE_BYTES} bytes", path=str(path))
        return data

    def write(self, path: Path, data: bytes, *, new_mode: int) -> None:
        """Put `data` in the place of the file's content; `new_mode` for a file that is new.

        A link stays a link: the file that it leads to is replaced.
        """
        target = path.resolve()
        temporary = _temporary(target)
        try:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
            descriptor = os.open(temporary, flags, PRIVATE)
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
                file.write(data)
                self._take_after(file.fileno(), target, new_mode)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
            sync_directory(target.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise UserError(f"cannot be written: {error.strerror}", path=str(path)) from None

    def remove(self, path: Path) -> None:
        """Remove a file; nothing where there is none."""
        try:
            path.unlink(missing_ok=True)
            sync_directory(path.parent)
        except FileNotFoundError:
            return
        except OSError as error:
            raise UserError(f"cannot be removed: {error.strerror}", path=str(path)) from None

    def make_directory(self, path: Path, *, mode: int) -> None:
        """Make a directory whose parent exists; nothing where it exists."""
        try:
            path.mkdir(mode=mode, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot be made: {error.strerror}", path=str(path)) from None

    def remove_directory(self, path: Path) -> None:
        """Remove a directory if it is empty."""
        with contextlib.suppress(OSError):
            path.rmdir()

    def tidy(self, path: Path) -> None:
        """Remove what a write that was killed left beside `path`."""
        with contextlib.suppress(OSError):
            _temporary(path.resolve()).unlink()

    def _take_after(self, descriptor: int, target: Path, new_mode: int) -> None:
        """Give a file the mode and the owner of the one that it replaces."""
        try:
            status = target.stat()
        except FileNotFoundError:
            if os.name == "posix":
                os.chmod(descriptor, new_mode)
            return
        if os.name == "posix":
            if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                with contextlib.suppress(PermissionError):
                    os.chown(descriptor, status.st_uid, status.st_gid)
            os.chmod(descriptor, stat.S_IMODE(status.st_mode))


def _temporary(target: Path) -> Path:
    """One name for all times, so that what a killed run left behind is found again."""
    return target.with_name(f".{target.name}.gateway-init")
