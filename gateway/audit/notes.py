"""Signed notes, and the checkpoints in them: c2sp.org/signed-note, c2sp.org/tlog-checkpoint.

Keys are written as Go's `note` package writes them: `PRIVATE+KEY+NAME+ID+KEY` for the one that
signs, `NAME+ID+KEY` for the one that others verify with. Ed25519 only. `cryptography` is imported
when something is signed or verified.
"""

import base64
import os
import re
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Final

import msgspec

from gateway.errors import UserError

_ED25519: Final = b"\x01"
_KEY_BYTES: Final = 32
_PRIVATE: Final = "PRIVATE+KEY+"
_SIGNATURE: Final = "\u2014 "
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~/:-]{0,127}")
_MAX_NOTE_BYTES: Final = 64 * 1024
_MAX_SIGNATURES: Final = 64
_SIZE = re.compile(r"0|[1-9][0-9]{0,15}")


class Verifier(msgspec.Struct, frozen=True):
    """The public half of a key: what it is called, and its 32 bytes."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """The four bytes that tell it from others of its name."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:4]

    def text(self) -> str:
        """The key as it is given to those who verify."""
        return f"{self.name}+{self.key_id.hex()}+{_base64(_ED25519 + self.public)}"

    @classmethod
    def parse(cls, text: str) -> "Verifier":
        """The key that `text` says; ValueError where it is none."""
        name, key_id, key = _split(text)
        verifier = cls(name, key)
        if verifier.key_id.hex() != key_id:
            raise ValueError("the key id is not that of the key")
        return verifier

    def verifies(self, text: str, signature: bytes) -> bool:
        """Whether `signature` is this key's of `text`."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text.encode())
        except (InvalidSignature, ValueError):
            return False
        return True


class Signer:
    """A key that signs. It is checked when it is made, and loaded when it first signs."""

    def __init__(self, name: str, key_id: str, seed: bytes) -> None:
        self.name = name
        self._key_id = bytes.fromhex(key_id)
        self._seed = seed
        self._sign: Callable[[bytes], bytes] | None = None

    @classmethod
    def parse(cls, text: str) -> "Signer":
        """The key that `text` says; ValueError, which does not quote it, where it is none."""
        text = text.strip()
        if not text.startswith(_PRIVATE):
            raise ValueError("it does not begin with PRIVATE+KEY+")
        return cls(*_split(text.removeprefix(_PRIVATE)))

    @classmethod
    def generate(cls, name: str) -> "Signer":
        """A new key. Raises UserError for a name that keys cannot have."""
        if not _NAME.fullmatch(name):
            raise UserError(
                f"{name!r} is no name for a key; use letters, digits and ._~/:- as in "
                "example.com/audit"
            )
        seed = os.urandom(_KEY_BYTES)
        verifier = Verifier(name, _public(seed))
        return cls(name, verifier.key_id.hex(), seed)

    def text(self) -> str:
        """The key as it is kept. A secret."""
        return f"{_PRIVATE}{self.name}+{self._key_id.hex()}+{_base64(_ED25519 + self._seed)}"

    def __repr__(self) -> str:
        return f"<Signer {self.name}>"

    def load(self) -> None:
        """Have ready what signing needs. Raises UserError where the key contradicts its id."""
        if self._sign is not None:
            return
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        private = Ed25519PrivateKey.from_private_bytes(self._seed)
        if self.verifier().key_id != self._key_id:
            raise UserError(f"the signing key {self.name!r} is damaged: its id is another key's")
        self._sign = private.sign

    def verifier(self) -> Verifier:
        """The public half."""
        return Verifier(self.name, _public(self._seed))

    def signature_line(self, text: str) -> str:
        """The line that signs the note text `text`."""
        self.load()
        assert self._sign is not None
        return f"{_SIGNATURE}{self.name} {_base64(self._key_id + self._sign(text.encode()))}\n"


class Signature(msgspec.Struct, frozen=True):
    """One signature line of a note."""

    name: str
    key_id: bytes
    signature: bytes


class Note(msgspec.Struct, frozen=True):
    """A note whose signatures nobody has looked at yet."""

    text: str
    signatures: tuple[Signature, ...]

    def signed_by(self, verifiers: Iterable[Verifier]) -> Verifier | None:
        """The first of `verifiers` that signed it, if every signature of theirs is good.

        None where no key is known; ValueError where a signature of a known key is bad.
        """
        found: Verifier | None = None
        known = {(each.name, each.key_id): each for each in verifiers}
        for signature in self.signatures:
            verifier = known.get((signature.name, signature.key_id))
            if verifier is None:
                continue
            if not verifier.verifies(self.text, signature.signature):
                raise ValueError(f"the signature of the key {verifier.name} is bad")
            found = found or verifier
        return found


class Checkpoint(msgspec.Struct, frozen=True):
    """That the log `origin` had `size` records and the tree over them the root `root`."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The text of its note."""
        return f"{self.origin}\n{self.size}\n{_base64(self.root)}\n"

    @classmethod
    def parse(cls, text: str) -> "Checkpoint":
        """The checkpoint that a note's text says; ValueError where it says none."""
        lines = text.split("\n")
        if len(lines) < 4 or lines[-1] or not all(lines[:-1]):
            raise ValueError("not the text of a checkpoint")
        if not _SIZE.fullmatch(lines[1]):
            raise ValueError("not the size of a tree")
        root = base64.b64decode(lines[2], validate=True)
        if len(root) != sha256().digest_size:
            raise ValueError("not the root of a tree")
        return cls(lines[0], int(lines[1]), root)


def signed_note(text: str, signers: Iterable[Signer]) -> str:
    """The note of `text`, which ends with a newline."""
    return f"{text}\n{''.join(signer.signature_line(text) for signer in signers)}"


def parse_note(note: str) -> Note:
    """The parts of a note; ValueError where it is none."""
    if len(note) > _MAX_NOTE_BYTES or any(letter < " " and letter != "\n" for letter in note):
        raise ValueError("not a note: too long, or with control characters")
    text, found, lines = note.rpartition("\n\n")
    if not found or not lines.endswith("\n"):
        raise ValueError("not a note: it has no signatures")
    signatures = []
    for line in lines[:-1].split("\n")[: _MAX_SIGNATURES + 1]:
        name, _, encoded = line.removeprefix(_SIGNATURE).partition(" ")
        signature = base64.b64decode(encoded, validate=True)
        if not line.startswith(_SIGNATURE) or not name or len(signature) < 5:
            raise ValueError("not a note: a signature line is malformed")
        signatures.append(Signature(name, signature[:4], signature[4:]))
    if len(signatures) > _MAX_SIGNATURES:
        raise ValueError("not a note: too many signatures")
    return Note(f"{text}\n", tuple(signatures))


def split_notes(text: str) -> list[str]:
    """The notes that stand one after the other in `text`."""
    notes: list[str] = []
    lines: list[str] = []
    signed = False
    for line in text.splitlines(keepends=True):
        if signed and not line.startswith(_SIGNATURE):
            notes.append("".join(lines))
            lines, signed = [], False
        if not lines and not line.strip():
            continue
        signed = signed or line.startswith(_SIGNATURE)
        lines.append(line)
    if lines:
        notes.append("".join(lines))
    return notes


def _split(text: str) -> tuple[str, str, bytes]:
    name, _, rest = text.strip().partition("+")
    key_id, _, encoded = rest.partition("+")
    if not _NAME.fullmatch(name) or not re.fullmatch(r"[0-9a-f]{8}", key_id):
        raise ValueError("it is not written NAME+ID+KEY")
    try:
        key = base64.b64decode(encoded, validate=True)
    except ValueError:
        raise ValueError("its last part is not base64") from None
    if key[:1] != _ED25519 or len(key) != 1 + _KEY_BYTES:
        raise ValueError("it is not an Ed25519 key")
    return name, key_id, key[1:]


def _public(seed: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
