"""The guard `path`: a file path must lie inside given folders.

Judged by its text alone; the folder tree is the server's, and may be on another machine. So a
symbolic link inside a root that leads out of it is not seen.
"""

import ntpath
import posixpath
import re

import msgspec

from gateway.policy.guards.base import Guard, OptionsError, read_options

_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+:")  # two letters at least: one is a drive
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9\u00b9\u00b2\u00b3]|"
                     r"lpt[0-9\u00b9\u00b2\u00b3])(?:\..*)?", re.IGNORECASE)  # fmt: skip
_SHORT_NAME = re.compile(r"~[0-9]")
_MAX_CHARACTERS = 4096


class PathOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`roots`: absolute folders, of POSIX or of Windows with a drive, all of one kind. `base`: what
    relative paths are relative to, one of the roots or inside; without it they are refused.
    `file_urls`: whether `file:///...` is taken too."""

    roots: tuple[str, ...]
    base: str = ""
    file_urls: bool = False


class PathGuard(Guard):
    """Refuses paths outside the roots, and spellings that programs read differently."""

    def __init__(self, options: object) -> None:
        given = read_options(options, PathOptions)
        if not given.roots:
            raise OptionsError("roots", "name at least one folder")
        self._windows = _DRIVE.match(given.roots[0]) is not None
        self._file_urls = given.file_urls
        self._base = ""
        self._roots = [
            self._read_folder(f"roots[{position}]", root)
            for position, root in enumerate(given.roots)
        ]
        if given.base:
            self._base = self._read_folder("base", given.base)
            if not self._inside(self._base):
                raise OptionsError("base", "must lie inside one of the roots")

    def check(self, value: object) -> str | None:
        """See `Guard.check`."""
        if not isinstance(value, str):
            return "The path must be a text."
        if self._file_urls and value[:8].lower() == "file:///":
            # Only the plain form: no host, and nothing that would have to be decoded.
            value = value[8:] if self._windows else value[7:]
            if "?" in value or "#" in value:
                return "The file URL must not have a query or a fragment."
        problem = self._spelling(value)
        if problem is not None:
            return problem
        if not self._absolute(value):
            if not self._base:
                return "The path must be absolute."
            value = f"{self._base}/{value}"
        if not self._inside(self._normal(value)):
            return "The path lies outside the folders that are allowed."
        return None

    def _read_folder(self, key: str, folder: str) -> str:
        problem = self._spelling(folder)
        if problem is not None:
            raise OptionsError(key, problem[:1].lower() + problem[1:].rstrip("."))
        if not self._absolute(folder):
            raise OptionsError(key, "must be an absolute path, and all roots of one system")
        return self._normal(folder)

    def _absolute(self, path: str) -> bool:
        return _DRIVE.match(path) is not None if self._windows else path.startswith("/")

    def _normal(self, path: str) -> str:
        if self._windows:
            return ntpath.normpath(path).replace("\\", "/").lower()
        # normpath keeps two slashes in front, which POSIX leaves to the system.
        return "/" + posixpath.normpath(path).lstrip("/")

    def _inside(self, path: str) -> bool:
        return any(
            path == root or path.startswith(root if root.endswith("/") else f"{root}/")
            for root in self._roots
        )

    def _spelling(self, path: str) -> str | None:
        if not path or len(path) > _MAX_CHARACTERS:
            return f"The path must have 1 to {_MAX_CHARACTERS} characters."
        if not path.isprintable():  # also line breaks, bidi controls and lone surrogates
            return "The path must not have control or invisible characters."
        if path != path.strip():
            return "The path must not begin or end with a space."
        if path.startswith("~") or "${" in path or "$(" in path or "`" in path:
            return "The path must be written out: no ~, variables or commands."
        if _ENCODED.search(path):
            return "The path must not be percent-encoded."
        if _SCHEME.match(path):
            return "The path must be a plain path, not a URL."
        return self._windows_spelling(path) if self._windows else _posix_spelling(path)

    def _windows_spelling(self, path: str) -> str | None:
        if path[0] in "/\\":
            return "The path must begin with a drive: no network, device or rooted paths."
        rest = path[2:] if _DRIVE.match(path) else path
        if re.search(
            r'[:*?"<>|%\uff0f\uff3c\u2215\u2044\u29f5\u29f8\uff1a\uff0e\u00a5\u20a9]', rest
        ):
            return "The path has a character that has no place in a Windows path."
        for part in re.split(r"[\\/]", rest):
            if part in ("", ".", ".."):
                continue
            if part[-1] in ". ":
                return "No part of the path may end with a dot or a space."
            if _DEVICE.fullmatch(part.rstrip()) or _SHORT_NAME.search(part):
                return "The path has a device name or a short (8.3) name."
        return None


def _posix_spelling(path: str) -> str | None:
    if "\\" in path or _DRIVE.match(path):
        return "The path must use forward slashes and no drive."
    return None
