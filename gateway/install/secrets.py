"""Moves secrets that stand in an entry in plain text to files that only their owner can read."""

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from gateway.config.plain_secrets import plain_secrets
from gateway.config.references import MAX_VALUE_BYTES
from gateway.config.settings import HttpEntry, StdioEntry, UpstreamEntry
from gateway.errors import UserError
from gateway.install.carrying import Entry


class SecretFile(msgspec.Struct, frozen=True):
    """A file to write, whose content resolves to a secret."""

    path: Path
    data: bytes

    def __repr__(self) -> str:
        return f"SecretFile({self.path})"


class Vault:
    """The directory that the secrets of one configuration are moved to.

    `home` only shortens how paths in it are written. Nothing is written here: `files` says what to.
    """

    def __init__(self, directory: Path, home: Path) -> None:
        self.directory = directory
        self.home = home
        self.files: dict[Path, SecretFile] = {}
        self.values: set[str] = set()
        """Every secret that was seen, to be masked wherever something is shown."""

    def move(self, upstream: str, entry: Entry) -> Entry:
        """`entry` with references in the place of what looks like a secret.

        Raises UserError where one cannot be moved.
        """
        moved = dict(entry)
        for key in plain_secrets(as_upstream(upstream, entry)):
            member, *inner = key
            value = moved[str(member)]
            if isinstance(value, dict):
                name = str(inner[0])
                moved["env" if member == "env" else "headers"] = value | {
                    name: self._replaced(upstream, name, value[name])
                }
            elif isinstance(value, list):
                index = int(inner[0])
                label = _option(value, index)
                items = list(value)
                items[index] = self._replaced(upstream, label, value[index])
                moved["args"] = items
            else:
                moved["url"] = self._url(upstream, str(value))
        return moved

    def see(self, value: object) -> None:
        """Remember the secrets of a client's entry, whether it is sound or not."""
        if not isinstance(value, dict):
            return
        args = value.get("args")
        texts = [each for each in args if isinstance(each, str)] if isinstance(args, list) else []
        for key in _plain_secrets(
            StdioEntry(name="", path="", line=0, command="", args=tuple(texts))
        ):
            text = texts[int(key[1])]
            self.values.add(text.partition("=")[2] if text.startswith("-") else text)
        for member in ("env", "headers"):
            inner = value.get(member)
            for name, text in inner.items() if isinstance(inner, dict) else ():
                if isinstance(text, str) and looks_secret(name, text):
                    found = _PREFIX.match(text)
                    self.values.add(text[found.end() :] if found is not None else text)
        url = value.get("url")
        if isinstance(url, str) and _plain_secrets(HttpEntry(name="", path="", line=0, url=url)):
            named = [text for _, name, text in _QUERY.findall(url) if looks_secret(name, text)]
            self.values.update(named or [url])

    def mask(self, text: str) -> str:
        """`text` without any of the secrets, however JSON or YAML write them."""
        for value in sorted(filter(None, self.values), key=len, reverse=True):
            for written in {value, _escaped(value), value.replace("${", "$${")}:
                text = text.replace(written, "********")
        return text

    def _url(self, upstream: str, url: str) -> str:
        """Only the secret parts of a query, where that is all; else the whole URL."""

        def moved(found: re.Match[str]) -> str:
            name, value = found[2], found[3]
            if not looks_secret(name, value):
                return found[0]
            return f"{found[1]}{name}={self._reference(upstream, name, value)}"

        pieced = _QUERY.sub(moved, url)
        if not plain_secrets(HttpEntry(name="", path="", line=0, url=pieced)):
            return pieced
        return self._reference(upstream, "url", url)

    def _replaced(self, upstream: str, label: str, text: str) -> str:
        """What of `text` is no secret stays: the scheme of a header, the name of an option."""
        found = _PREFIX.match(text)
        prefix = found[0] if found is not None and found.end() < len(text) else ""
        return prefix + self._reference(upstream, label, text[len(prefix) :])

    def _reference(self, upstream: str, label: str, text: str) -> str:
        value = text.replace("$${", "${")
        self.values.add(value)
        if value.endswith(("\n", "\r")):
            value += "\r\n"  # reading takes one line end away
        data = value.encode()
        if len(data) > MAX_VALUE_BYTES:
            raise UserError(f"a secret of the server {upstream!a} is too long to be moved")
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", f"{upstream}.{label.lstrip('-')}")[:100]
        path = self.directory / name
        number = 2
        while not self._is_free(path, data):
            path = self.directory / f"{name}-{number}"
            number += 1
        self.files[path] = SecretFile(path, data)
        shown = str(path)
        if path.is_relative_to(self.home):
            shown = f"~/{path.relative_to(self.home).as_posix()}"
        if re.search(r"[}\0]|\$\{|\s$", shown):
            raise UserError(
                "secrets cannot be kept in a directory of this name; set XDG_CONFIG_HOME",
                path=str(self.directory),
            )
        return f"${{file:{shown}}}"

    def _is_free(self, path: Path, data: bytes) -> bool:
        planned = self.files.get(path)
        if planned is not None:
            return planned.data == data
        try:
            return path.read_bytes() == data
        except FileNotFoundError:
            return True
        except OSError as error:
            raise UserError(f"cannot be read: {error.strerror}", path=str(path)) from None


def looks_secret(name: str, value: str) -> bool:
    """Whether `value` under this name seems to be a secret in plain text."""
    probe = StdioEntry(name="", path="", line=0, command="", env={name: value})
    return bool(_plain_secrets(probe))


def _plain_secrets(entry: UpstreamEntry) -> list[tuple[str | int, ...]]:
    """The same for entries whose references may be malformed."""
    try:
        return plain_secrets(entry)
    except UserError:
        return []


def as_upstream(name: str, entry: Mapping[str, object]) -> UpstreamEntry:
    """An entry as the rest of the gateway knows it, without the place where it stands."""
    fields = {key: value for key, value in entry.items() if key != "type"}
    fields |= {"name": name, "path": "", "line": 0}
    if "command" in entry:
        return msgspec.convert(fields, StdioEntry)
    return msgspec.convert(fields, HttpEntry)


_PREFIX = re.compile(r"(?:Bearer|Basic|Token|ApiKey) +|-[^=\s]*=", re.IGNORECASE)
_QUERY = re.compile(r"([?&])([^=&#]+)=([^&#]+)")


def _option(args: list[str], index: int) -> str:
    """A name for the argument at `index`: the option that it belongs to."""
    own, equals, _ = args[index].partition("=")
    if equals and own.startswith("-"):
        return own
    before = args[index - 1] if index else ""
    return before if before.startswith("-") else f"argument-{index + 1}"


def _escaped(text: str) -> str:
    import json

    return json.dumps(text, ensure_ascii=False)[1:-1]
