"""Where the audit log's files are, and that only their owner can reach them.

A journal is one chain of one writer, in one file or several, its segments:

    WRITER.jsonl  WRITER.0002.jsonl  WRITER.0003.jsonl ...

A segment that nothing is added to any more may be compressed: `WRITER.jsonl.gz`. Where both forms
are there, the plain one counts.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from gateway.state import state_directory

PLAIN: Final = ".jsonl"
COMPRESSED: Final = ".jsonl.gz"

_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]*)\.([0-9]{4,9})")


class Segment(NamedTuple):
    """One file of a journal."""

    writer: str
    number: int  # from 1
    path: Path

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return segment_name(self.writer, self.number)

    @property
    def compressed(self) -> bool:
        """Whether the file is the compressed form."""
        return self.path.name.endswith(COMPRESSED)


def default_directory(environ: Mapping[str, str]) -> Path:
    """The user's own audit directory: MCP_TOOL_GATEWAY_AUDIT, else under XDG_STATE_HOME."""
    named = environ.get("MCP_TOOL_GATEWAY_AUDIT")
    if named:
        return Path(named)
    return state_directory(environ) / "audit"


def journal_directory(directory: Path) -> Path:
    """Where the journals of the audit directory `directory` are."""
    return directory / "journal"


def index_file(directory: Path) -> Path:
    """The index of the audit directory `directory`."""
    return directory / "index.sqlite"


def key_file(directory: Path) -> Path:
    """The key of the digests in the records of the audit directory `directory`."""
    return directory / "hmac.key"


def checkpoints_file(directory: Path) -> Path:
    """The signed checkpoints of the journals of the audit directory `directory`."""
    return directory / "checkpoints.jsonl"


def segment_name(writer: str, number: int) -> str:
    """The name of a segment's file without its suffix."""
    return writer if number == 1 else f"{writer}.{number:04d}"


def file_name(path: Path) -> str:
    """The name of a journal's file without its suffix, as `journal_files` has it."""
    return path.name.removesuffix(".gz").removesuffix(PLAIN)


def place_of(name: str) -> tuple[str, int]:
    """The writer and number of the segment in a file of this name; of a foreign one: itself, 1."""
    found = _NAME.fullmatch(name)
    if found is None:
        return name, 1
    number = int(found[2])
    return (found[1], number) if segment_name(found[1], number) == name else (name, 1)


def journal_files(directory: Path) -> dict[str, Path]:
    """The files of the journals of the audit directory `directory` by name, the oldest first."""
    plain, packed = set(), set()
    try:
        with os.scandir(journal_directory(directory)) as entries:
            for entry in entries:
                name = entry.name
                if not name.isascii() or not entry.is_file(follow_symlinks=False):
                    continue
                if name.endswith(PLAIN):
                    plain.add(name.removesuffix(PLAIN))
                elif name.endswith(COMPRESSED):
                    packed.add(name.removesuffix(COMPRESSED))
    except FileNotFoundError:
        return {}
    journals = journal_directory(directory)
    return {
        name: journals / (name + (PLAIN if name in plain else COMPRESSED))
        for name in sorted(plain | packed, key=place_of)
    }


def segments(directory: Path) -> list[Segment]:
    """The same as `journal_files`, as segments of their writers."""
    return [Segment(*place_of(name), path) for name, path in journal_files(directory).items()]
