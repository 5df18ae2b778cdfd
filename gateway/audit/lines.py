"""Reads single lines out of the journals, from where the index has seen them.

Compressed files have no places to begin at: each is unpacked once, into a file without a name
beside the index, which is gone with its reader.
"""

import zlib
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from gzip import BadGzipFile
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryFile
from typing import IO, Final, TypeAlias

from gateway.audit.files import COMPRESSED, journal_files
from gateway.audit.reader import open_journal

MAX_OPEN_FILES: Final = 64

_CHUNK_BYTES: Final = 1024 * 1024

Place: TypeAlias = tuple[str, int, int]
"""A journal's name, a byte offset, and the size of the line there, without its end."""


class LineReader:
    """Keeps the files open that were read last: what is asked for stands close together."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[str, Path] = {}
        self._open: OrderedDict[str, IO[bytes]] = OrderedDict()

    def close(self) -> None:
        """Close all files."""
        for file in self._open.values():
            file.close()
        self._open.clear()

    def read(self, places: Iterable[Place]) -> dict[Place, bytes]:
        """What stands at these places; nothing where the file is gone or shorter now."""
        lines: dict[Place, bytes] = {}
        for place in sorted(set(places)):
            name, offset, size_bytes = place
            with suppress(OSError):
                file = self._file(name)
                file.seek(offset)
                line = file.read(size_bytes)
                if len(line) == size_bytes:
                    lines[place] = line
        return lines

    def _file(self, name: str) -> IO[bytes]:
        file = self._open.get(name)
        if file is not None:
            self._open.move_to_end(name)
            return file
        if name not in self._files:
            self._files = journal_files(self._directory)
        path = self._files.get(name)
        if path is None:
            raise FileNotFoundError(name)
        file = self._unpacked(path) if path.name.endswith(COMPRESSED) else open_journal(path)
        self._open[name] = file
        if len(self._open) > MAX_OPEN_FILES:
            self._open.popitem(last=False)[1].close()
        return file

    def _unpacked(self, path: Path) -> IO[bytes]:
        with open_journal(path) as packed:
            file = TemporaryFile(dir=self._directory)  # noqa: SIM115 - closed with this reader
            # What follows damage cannot be had, what stands before it can.
            with suppress(EOFError, zlib.error, BadGzipFile):
                copyfileobj(packed, file, _CHUNK_BYTES)
        return file
