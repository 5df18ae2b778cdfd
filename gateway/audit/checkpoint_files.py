"""Files of signed checkpoints: one JSON object a line with the `note`, or notes as they are."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from gateway.audit.notes import split_notes
from gateway.errors import UserError

MAX_FILE_BYTES: Final = 512 * 1024 * 1024


class Kept(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of such a file: a checkpoint, or that an anchor did not take one."""

    time: str
    journal: str
    size: int = 0
    note: str | None = None
    anchor: str | None = None
    failed: str | None = None


_decode = msgspec.json.Decoder(Kept).decode
encode_kept = msgspec.json.Encoder(order="sorted").encode


def read_kept(path: Path) -> Iterator[Kept]:
    """The lines of the file that the gateway writes beside the journals."""
    for line in _read(path).splitlines():
        try:
            yield _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue  # torn: the next one was written after it


def read_checkpoints(path: Path) -> list[tuple[str, int]]:
    """The notes in a file and the lines that they begin in; UserError when it cannot be read."""
    data = _read(path)
    if not data.lstrip().startswith(b"{"):
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise UserError("is no file of checkpoints: it is not text", path=str(path)) from error
        notes = split_notes(text)
        return [(note, text[: text.index(note)].count("\n") + 1) for note in notes]
    found = []
    for number, line in enumerate(data.split(b"\n"), 1):
        try:
            kept = _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        if kept.note is not None:
            found.append((kept.note, number))
    return found


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UserError("is too large for a file of checkpoints", path=str(path))
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"the checkpoints cannot be read: {error.strerror}", path=str(path)
        ) from error
