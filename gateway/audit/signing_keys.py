"""The keys that sign the checkpoints of an audit log, and their public halves.

The private key is in `keys/signing.key` of the audit directory, its owner's alone, unless
`audit.signing_key` refers to another place. `keys/public.keys` has the public half of every key
that ever signed here, one a line, for whoever verifies.
"""

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from gateway.audit.notes import Signer, Verifier
from gateway.errors import UserError
from gateway.state import make_private_directory


def signing_key_file(directory: Path) -> Path:
    """The private key of the audit directory `directory`."""
    return directory / "keys" / "signing.key"


def verifiers_file(directory: Path) -> Path:
    """The public keys of the audit directory `directory`."""
    return directory / "keys" / "public.keys"


def read_verifiers(path: Path) -> list[Verifier]:
    """The public keys in a file, none where there is no such file; UserError for what is none."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the public keys cannot be read: {error}", path=str(path)) from error
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            keys.append(Verifier.parse(line))
        except ValueError as error:
            message = f"is not a public key: {error}"
            raise UserError(message, path=str(path), line=number) from error
    return keys


def own_signer(directory: Path) -> Signer | None:
    """The key of the audit directory `directory`; None where nobody has made one.

    Raises UserError when it cannot be used, or others can read it.
    """
    path = signing_key_file(directory)
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(
            f"the signing key cannot be read: {error.strerror}", path=str(path)
        ) from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if os.name == "posix" and stat.S_IMODE(status.st_mode) & 0o077:
            raise UserError(
                "other users can read the signing key; make a new one with "
                "`gateway audit keys rotate`",
                path=str(path),
            )
        data = file.read(4096)
    return parse_signer(data.decode("ascii", "replace"), str(path))


def parse_signer(text: str, path: str, line: int = 0) -> Signer:
    """The private key that `text` says. Raises UserError, which does not quote it."""
    try:
        return Signer.parse(text)
    except ValueError as error:
        raise UserError(
            f"is not a signing key as `gateway audit keys create` makes it: {error}",
            path=path,
            line=line,
        ) from None


def create_key(directory: Path, name: str, *, replace: bool = False) -> Signer:
    """Make the key of the audit directory `directory`.

    Raises UserError when there is one already and it is not to be replaced.
    """
    path = signing_key_file(directory)
    make_private_directory(path.parent)
    signer = Signer.generate(name)
    beside = path.with_name(f"{path.name}.{os.urandom(4).hex()}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(f"{signer.text()}\n")
                file.flush()
                os.fsync(file.fileno())
            # Known before it signs: a signature that nobody can verify proves nothing.
            publish(directory, [signer.verifier()])
            if replace:
                beside.replace(path)
            else:
                path.hardlink_to(beside)
        finally:
            with suppress(FileNotFoundError):
                beside.unlink()
    except FileExistsError:
        raise UserError(
            "there is a signing key already; `gateway audit keys rotate` replaces it",
            path=str(path),
        ) from None
    except OSError as error:
        raise UserError(
            f"the signing key cannot be made: {error.strerror}", path=str(path)
        ) from error
    return signer


def publish(directory: Path, verifiers: Sequence[Verifier]) -> None:
    """Have the public halves in the file for those who verify. Raises UserError."""
    path = verifiers_file(directory)
    make_private_directory(path.parent)
    known = set(read_verifiers(path))
    lines = "".join(f"{each.text()}\n" for each in verifiers if each not in known)
    if not lines:
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, lines.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UserError(
            f"the public keys cannot be written: {error.strerror}", path=str(path)
        ) from error
