"""Evidence for another person: the journals, checkpoints and public keys in one tar file.

    manifest.json   what is in it, with the SHA-256 of each file
    manifest.note   a signed note over the SHA-256 of manifest.json, where there is a key
    journal/        the segments, byte for byte; of a journal that is being written, its whole lines
    checkpoints.jsonl, keys/public.keys

It is verified without the log, without a key and without the gateway's machine.
"""

import io
import os
import re
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Literal, cast

import msgspec

from gateway.audit.files import Segment, checkpoints_file, segments
from gateway.audit.heads import has_writer
from gateway.audit.notes import Verifier, parse_note
from gateway.audit.reader import MAX_LINE_BYTES, open_journal
from gateway.audit.records import timestamp
from gateway.audit.signing_keys import verifiers_file
from gateway.audit.verify.findings import Finding, Severity
from gateway.errors import UserError

if TYPE_CHECKING:
    from gateway.audit.notes import Signer

FORMAT: Final = "mcp-tool-gateway-evidence"
VERSION: Final = 1

_TITLE: Final = "mcp-tool-gateway/evidence"
_MEMBER = re.compile(
    r"manifest\.(json|note)|checkpoints\.jsonl|keys/public\.keys|"
    r"journal/[A-Za-z0-9][A-Za-z0-9._-]*\.jsonl(\.gz)?"
)
_CHUNK_BYTES: Final = 1024 * 1024
_MANIFEST_BYTES: Final = 64 * 1024 * 1024
_TRIES: Final = 20


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a bundle."""

    path: str
    size_bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle holds. `open`: journals that were being written when it was made."""

    format: str
    v: int
    time: str
    program: str
    files: tuple[Member, ...]
    open: tuple[str, ...] = ()


_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(Manifest).decode


def make_bundle(directory: Path, target: Path, *, program: str, signer: "Signer | None") -> int:
    """Put the log of the audit directory `directory` into the tar file `target`, a new one.

    It is gzipped where its name ends with `gz`. Returns how many journal files are in it. Raises
    UserError where it cannot be made.
    """
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        if target.exists():
            raise UserError("is there already; name another file", path=str(target))
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        mode: Literal["w", "w:gz"] = "w:gz" if target.name.endswith("gz") else "w"
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode=mode) as tar:
            number = _fill(directory, tar, program, signer)
        beside.replace(target)
    except OSError as error:
        raise UserError(
            f"the bundle cannot be made: {error.strerror or error}",
            path=str(error.filename or target),
        ) from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
    return number


@contextmanager
def opened_bundle(path: Path) -> Iterator[Path]:
    """The bundle at `path`, unpacked into a directory that is laid out as an audit directory.

    Raises UserError for what is none.
    """
    with tempfile.TemporaryDirectory(prefix="gateway-evidence-") as name:
        directory = Path(name)
        (directory / "journal").mkdir()
        (directory / "keys").mkdir()
        try:
            with tarfile.open(path) as tar:
                for member in tar:
                    if not member.isfile() or not _MEMBER.fullmatch(member.name):
                        raise UserError(
                            f"is no bundle of evidence: it has a member {member.name!r}",
                            path=str(path),
                        )
                    source = tar.extractfile(member)
                    assert source is not None
                    with source, (directory / member.name).open("xb") as target:
                        while chunk := source.read(_CHUNK_BYTES):
                            target.write(chunk)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise UserError(f"cannot be read as a bundle: {error}", path=str(path)) from error
        yield directory


def read_manifest(directory: Path) -> Manifest:
    """The manifest of an unpacked bundle. Raises UserError."""
    path = directory / "manifest.json"
    try:
        if path.stat().st_size > _MANIFEST_BYTES:
            raise UserError("is no bundle of evidence: its manifest is too large")
        manifest = _decode(path.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UserError("is no bundle of evidence: it has no manifest") from None
    if manifest.format != FORMAT or manifest.v != VERSION:
        raise UserError("is a bundle of another version; verify it with the program that made it")
    return manifest


def judged(directory: Path, manifest: Manifest, verifiers: list[Verifier]) -> Iterator[Finding]:
    """What speaks against an unpacked bundle as such: files that are not those of its manifest."""

    def found(code: str, message: str, *, tampering: bool = True) -> Finding:
        severity: Severity = "tampering" if tampering else "note"
        return Finding(severity=severity, code=code, journal="", message=message)

    listed = {member.path: member for member in manifest.files}
    present = {
        str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()
    } - {"manifest.json", "manifest.note"}
    for name in sorted(listed.keys() | present):
        if name not in present:
            yield found("bundle", f"{name} is in the manifest, but not in the bundle")
        elif name not in listed:
            yield found("bundle", f"{name} is in the bundle, but not in its manifest")
        elif _digest(directory / name) != listed[name].sha256:
            yield found("bundle", f"{name} is not the file that the manifest says")
    note = directory / "manifest.note"
    if not note.exists():
        yield found("unsigned-bundle", "the manifest is not signed", tampering=False)
        return
    try:
        parsed = parse_note(note.read_text(encoding="utf-8"))
        if parsed.text != _text((directory / "manifest.json").read_bytes()):
            raise ValueError("it is over another manifest")
        if parsed.signed_by(verifiers) is None:
            yield found("unknown-key", "the manifest is signed by an unknown key", tampering=False)
    except ValueError as error:
        yield found("bad-signature", f"the signature of the manifest is not valid: {error}")


def _fill(directory: Path, tar: tarfile.TarFile, program: str, signer: "Signer | None") -> int:
    parts, sizes, checkpoints = _taken(directory)
    files = []
    running = []
    for segment in parts:
        size_bytes = sizes[segment.name]
        # A plain file that was compressed just now is taken as it was.
        opened = segment.path.open("rb") if segment.compressed else open_journal(segment.path)
        with opened as file:
            if not segment.compressed and _is_written(segment.path):
                size_bytes = _whole(file, size_bytes)
                running.append(segment.writer)
            files.append(_add(tar, f"journal/{segment.path.name}", file, size_bytes))
    keys = verifiers_file(directory)
    for path, data in (
        (checkpoints_file(directory), checkpoints),
        (keys, keys.read_bytes() if keys.exists() else b""),
    ):
        if data:
            files.append(_add_data(tar, path.relative_to(directory).as_posix(), data))
    manifest = _encode(
        Manifest(
            format=FORMAT,
            v=VERSION,
            time=timestamp(),
            program=program,
            files=tuple(files),
            open=tuple(sorted(set(running))),
        )
    )
    _add_data(tar, "manifest.json", manifest)
    if signer is not None:
        from gateway.audit.notes import signed_note

        _add_data(tar, "manifest.note", signed_note(_text(manifest), [signer]).encode())
    return len(parts)


def _taken(directory: Path) -> tuple[list[Segment], dict[str, int], bytes]:
    """The files to take, up to which size, and the checkpoints beside them.

    The log grows meanwhile. So the sizes are those after everything that is taken was there, or a
    journal would seem to be shorter than another one, or a checkpoint, says.
    """
    for _ in range(_TRIES):
        try:
            first = _sizes(directory)
            path = checkpoints_file(directory)
            checkpoints = path.read_bytes() if path.exists() else b""
            sizes = _sizes(directory)
        except FileNotFoundError:  # compressed or pruned just now
            continue
        writers = {segment.writer for segment in first}
        # Listed last: a segment says that it is sealed only when the next one is there.
        names = {each.name for each in segments(directory) if each.writer in writers}
        if names != {each.name for each in first} or not first.keys() <= sizes.keys():
            continue
        if all(first[each] or not sizes[each] for each in first):
            checkpoints = checkpoints[: checkpoints.rfind(b"\n") + 1]
            return list(first), {each.name: sizes[each] for each in first}, checkpoints
    raise UserError("the log changes too fast; try again", path=str(directory))


def _sizes(directory: Path) -> dict[Segment, int]:
    """The files and their sizes; without journals that have no record yet."""
    found = {segment: segment.path.stat().st_size for segment in segments(directory)}
    return {segment: size for segment, size in found.items() if size or segment.number > 1}


def _is_written(path: Path) -> bool:
    try:
        return has_writer(path)
    except FileNotFoundError:
        return False


def _whole(file: IO[bytes], size_bytes: int) -> int:
    """Where the last whole line before `size_bytes` ends."""
    begin = max(0, size_bytes - MAX_LINE_BYTES)
    file.seek(begin)
    return begin + file.read(size_bytes - begin).rfind(b"\n") + 1


class _Hashed:
    """A file whose bytes are hashed as they are read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


def _add(tar: tarfile.TarFile, name: str, file: IO[bytes], size_bytes: int) -> Member:
    info = tarfile.TarInfo(name)
    info.size = size_bytes
    info.mode = 0o600
    file.seek(0)
    source = _Hashed(file)
    tar.addfile(info, cast("IO[bytes]", source))
    return Member(path=name, size_bytes=size_bytes, sha256=source.digest.hexdigest())


def _add_data(tar: tarfile.TarFile, name: str, data: bytes) -> Member:
    return _add(tar, name, io.BytesIO(data), len(data))


def _digest(path: Path) -> str:
    whole = sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            whole.update(chunk)
    return whole.hexdigest()


def _text(manifest: bytes) -> str:
    return f"{_TITLE}\n{sha256(manifest).hexdigest()}\n"
