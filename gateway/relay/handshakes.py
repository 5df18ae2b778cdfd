"""Upstreams' handshake answers, kept between runs so that a client need not wait for them."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from gateway.audit.keys import Digester
from gateway.state import make_private_directory

_decode = msgspec.json.Decoder(dict[str, object]).decode


class HandshakeFiles:
    """One file for each pair of a configuration entry and a client's greeting.

    `entries` are the upstreams' entries as they stand in the configuration, encoded. File names are
    keyed digests: an entry may hold a secret.
    """

    def __init__(self, directory: Path, digester: Digester, entries: Mapping[str, bytes]) -> None:
        self._directory = directory
        self._digester = digester
        self._entries = entries
        self._kept: dict[Path, dict[str, object]] = {}

    def get(self, upstream: str, greeting: bytes) -> dict[str, object] | None:
        """The answer that this upstream last gave to a client with this greeting's key."""
        path = self._path(upstream, greeting)
        if path not in self._kept:
            try:
                self._kept[path] = _decode(path.read_bytes())
            except (OSError, msgspec.DecodeError, RecursionError):
                return None
        return self._kept[path]

    def put(self, upstream: str, greeting: bytes, result: dict[str, object]) -> None:
        """Keep an answer; failing to is no error, the next start is only slower.

        One in which a secret seems to stand is kept for this run only, not in a file.
        """
        path = self._path(upstream, greeting)
        if self._kept.get(path) == result:
            return
        self._kept[path] = result
        if _holds_secret(result):
            with contextlib.suppress(OSError):
                path.unlink()
            return
        with contextlib.suppress(OSError):
            make_private_directory(self._directory)
            temporary = path.with_suffix(f".{os.getpid()}")
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(result))
            temporary.replace(path)

    def _path(self, upstream: str, greeting: bytes) -> Path:
        key = self._entries[upstream] + b"\0" + greeting
        return self._directory / f"{self._digester.digest(key)}.json"


def _holds_secret(result: dict[str, object]) -> bool:
    from gateway.redaction.redactor import Redactor, could_hold_secret  # once for an upstream

    if not could_hold_secret(msgspec.json.encode(result).decode()):
        return False
    redactor = Redactor()
    redactor.value(result)
    return bool(redactor.counts)
