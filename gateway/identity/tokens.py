"""The store of the HTTP service's tokens: made, listed and revoked, kept as hashes.

A token is `mtg_<id>_<secret>`: the prefix lets scanners find one that leaked, the id names it to
people, the secret is 256 random bits. The store is an owner-only directory with one file a token.
A file is put into place whole, never changed, and removed to revoke: so commands that run at the
same time need no lock and lose nothing.
"""

import base64
import hashlib
import hmac
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from gateway.errors import UserError
from gateway.state import make_private_directory, sync_directory

FORM: Final = r"mtg_([0-9a-f]{8})_[A-Za-z0-9_-]{43}"
"""A regular expression for a whole token, with the id as its group."""
END_OF_TIME_S: Final = 253_402_300_800
"""The year 10000, which no calendar here can show."""

_MAX_FILE_BYTES: Final = 256 * 1024
_SECRET_BYTES: Final = 32
_ID: Final = re.compile(r"[0-9a-f]{8}")
# Not blocking: opening a FIFO would wait for its writer.
_READ: Final = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

_Time = Annotated[float, msgspec.Meta(ge=0, lt=END_OF_TIME_S)]
_Agents = Annotated[
    tuple[Annotated[str, msgspec.Meta(min_length=1)], ...], msgspec.Meta(min_length=1)
]
Signature = tuple[int, ...]
"""What differs once a file is another one, or has other content or permissions."""


class Token(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be shown of a token. Times are seconds since 1970; `expires_s` None is never."""

    id: str
    agents: _Agents
    label: str
    created_s: _Time
    expires_s: _Time | None

    def expired(self, now_s: float) -> bool:
        """Whether the token has ceased to be valid."""
        return self.expires_s is not None and now_s >= self.expires_s


class StoredToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token's file.

    `sha256` is that of the whole token. It is not a slow hash: those make up for passwords that
    can be guessed, while 256 random bits cannot, and each request is verified.
    """

    version: Literal[1]
    sha256: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    token: Token

    def matches(self, text: bytes) -> bool:
        """Whether `text` is this token; takes as long whatever it is."""
        return hmac.compare_digest(self.sha256, hashlib.sha256(text).digest())

    def __repr__(self) -> str:
        return f"StoredToken({self.token!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("token", self.token)]


def create_token(
    directory: Path, agents: Sequence[str], *, label: str, now_s: float, expires_s: float | None
) -> tuple[Token, str]:
    """Make a token for `agents` and keep its hash in `directory`, which is made when missing.

    Returns the token's description, and the token itself, which exists nowhere else. Raises
    UserError when the store cannot be used.
    """
    make_private_directory(directory)
    check_store(directory)
    while True:
        secret = base64.urlsafe_b64encode(os.urandom(_SECRET_BYTES)).rstrip(b"=").decode()
        token = Token(
            id=os.urandom(4).hex(),
            agents=tuple(dict.fromkeys(agents)),
            label=label,
            created_s=now_s,
            expires_s=expires_s,
        )
        text = f"mtg_{token.id}_{secret}"
        try:
            _put(
                _file(directory, token.id),
                StoredToken(1, hashlib.sha256(text.encode()).digest(), token),
            )
        except FileExistsError:
            continue  # the id is taken
        except OSError as error:
            raise UserError(
                f"the token cannot be kept: {error.strerror}; the directory must be yours, with "
                "space, and on a file system with hard links",
                path=str(directory),
            ) from error
        return token, text


def list_tokens(directory: Path) -> tuple[list[Token], list[UserError]]:
    """The tokens in the store, the oldest first, and what is wrong with files that are refused.

    A store that does not exist yet is empty. Raises UserError when it cannot be used.
    """
    tokens: list[Token] = []
    problems: list[UserError] = []
    try:
        paths = sorted(directory.iterdir()) if check_store(directory) else []
    except OSError as error:
        raise _unreadable(directory, error) from error
    for path in paths:
        if path.suffix != ".json" or not _ID.fullmatch(path.stem):
            continue
        try:
            tokens.append(read_token(directory, path.stem)[0].token)
        except FileNotFoundError:
            continue  # revoked meanwhile
        except UserError as error:
            problems.append(error)
    return sorted(tokens, key=lambda token: (token.created_s, token.id)), problems


def revoke_token(directory: Path, identifier: str) -> bool:
    """Remove a token for good; False when there is none with this id.

    Raises UserError when it cannot be removed.
    """
    if not _ID.fullmatch(identifier):
        return False
    try:
        _file(directory, identifier).unlink()
        sync_directory(directory)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UserError(
            f"the token {identifier} cannot be revoked: {error.strerror}; run this as the user "
            "whom the directory belongs to",
            path=str(directory),
        ) from error
    return True


def id_of(text: str) -> str | None:
    """The id that `text` is, or that the token `text` carries; None where it is neither."""
    token = re.fullmatch(FORM, text)
    if token is not None:
        return token[1]
    return text if _ID.fullmatch(text) else None


def check_store(directory: Path) -> bool:
    """Whether the store exists; raises UserError when it is not the owner's alone."""
    try:
        status = directory.stat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unreadable(directory, error) from error
    if not stat.S_ISDIR(status.st_mode):
        raise UserError("is not a directory; name another for the tokens", path=str(directory))
    _require_private(status, directory)
    if not os.access(directory, os.R_OK | os.X_OK):
        raise UserError("cannot be read; run `chmod 700` on it", path=str(directory))
    return True


def read_token(directory: Path, identifier: str) -> tuple[StoredToken, Signature]:
    """A token's file, and its signature at the time.

    Raises FileNotFoundError, and UserError where the file is not to be relied upon.
    """
    path = _file(directory, identifier)
    try:
        with os.fdopen(os.open(path, _READ), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UserError("is not a regular file; remove it", path=str(path))
            _require_private(status, path)
            data = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        stored = _decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        stored = None
    if stored is None or len(data) > _MAX_FILE_BYTES or stored.token.id != identifier:
        raise UserError(
            "is not a token's file as this version writes it; revoke the token and make a new one",
            path=str(path),
        )
    return stored, _signature(status)


def signature_of(directory: Path, identifier: str) -> Signature:
    """The signature of a token's file as it is now; raises as `read_token` does."""
    path = _file(directory, identifier)
    try:
        return _signature(path.lstat())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unreadable(path, error) from error


_decode = msgspec.json.Decoder(StoredToken).decode


def _file(directory: Path, identifier: str) -> Path:
    return directory / f"{identifier}.json"


def _put(path: Path, stored: StoredToken) -> None:
    """Put a new file at `path`, whole and durable; raises FileExistsError where there is one."""
    beside = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(stored))
            file.flush()
            os.fsync(descriptor)
        path.hardlink_to(beside)
    finally:
        beside.unlink()
    sync_directory(path.parent)


def _signature(status: os.stat_result) -> Signature:
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_mode,
        status.st_uid,
    )


def _require_private(status: os.stat_result, path: Path) -> None:
    if os.name != "posix":
        return
    if status.st_uid not in (os.geteuid(), 0):
        raise UserError(
            "belongs to another user, who could make tokens; create them as the user that runs "
            "the service, or name a directory of your own in http.tokens",
            path=str(path),
        )
    if status.st_mode & 0o077:
        raise UserError(
            "other users can reach it; run `chmod go-rwx` on it, and revoke what you do not know",
            path=str(path),
        )


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot be read: {error.strerror}; run this as the user whom the tokens belong to",
        path=str(path),
    )
