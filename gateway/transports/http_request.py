"""The parts of an HTTP/1.1 request, checked before they reach the wire."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NewType
from urllib.parse import urlsplit

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

HeaderBlock = NewType("HeaderBlock", bytes)
"""Header lines, each with its line end, as `header_block` makes them."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BAD_VALUE = re.compile(r"[\0-\x08\x0a-\x1f\x7f]")
_BAD_PATH = re.compile(r"[^!-~]")
# What decides where a message ends and how it is coded is written by the connection alone.
_RESERVED = frozenset(
    {"accept-encoding", "connection", "content-length", "host", "transfer-encoding", "upgrade"}
)


class Origin(msgspec.Struct, frozen=True):
    """Where connections go: those of one origin are interchangeable."""

    tls: bool
    host: str
    port: int

    @property
    def host_header(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def split_url(url: str) -> tuple[Origin, str]:
    """The origin of `url` and the request target on it.

    Raises ValueError; its text does not repeat the URL, which may hold a secret.
    """
    if _BAD_PATH.search(url):
        raise ValueError("the URL contains a blank, a control or a non-ASCII character")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError("the URL does not begin with http:// or https://")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the URL contains a user name or password: use a header instead")
    tls = parts.scheme == "https"
    try:
        port = parts.port or (443 if tls else 80)
    except ValueError:
        raise ValueError("the port in the URL is not a number from 1 to 65535") from None
    if not parts.hostname:
        raise ValueError("the URL names no host")
    target = parts.path or "/"
    return Origin(tls, parts.hostname, port), f"{target}?{parts.query}" if parts.query else target


def header_block(headers: Iterable[tuple[str, str]]) -> HeaderBlock:
    """The lines of `headers`. Raises ValueError, without the value, for what cannot be sent."""
    lines = []
    for name, value in headers:
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{name!r} is not a header name")
        if name.lower() in _RESERVED:
            raise ValueError(f"the header {name!r} cannot be set")
        try:
            encoded = value.encode("latin-1")
        except UnicodeEncodeError:
            encoded = b"\n"
        if _BAD_VALUE.search(encoded.decode("latin-1")):
            raise ValueError(f"the value of the header {name!r} has characters it must not have")
        lines.append(name.encode() + b": " + encoded + b"\r\n")
    return HeaderBlock(b"".join(lines))


def request_bytes(
    origin: Origin, method: str, target: str, headers: HeaderBlock, body: bytes
) -> bytes:
    """The request as it goes over the wire. Raises ValueError for a bad method or target."""
    start = _start(origin, method, target)
    if body or method == "POST":
        return b"%bContent-Length: %d\r\n%b\r\n%b" % (start, len(body), headers, body)
    return b"%b%b\r\n" % (start, headers)


@lru_cache(maxsize=1024)
def _start(origin: Origin, method: str, target: str) -> bytes:
    """The request line and the Host header, the same for nearly every request of an upstream."""
    if not _TOKEN.fullmatch(method) or not target.startswith("/") or _BAD_PATH.search(target):
        raise ValueError("bad request line")
    return f"{method} {target} HTTP/1.1\r\nHost: {origin.host_header}\r\n".encode("ascii")
