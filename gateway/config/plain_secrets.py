"""Finds secrets that stand in an upstream's entry in plain text instead of as a reference.

A guess by names and well-known forms: it leads to a warning, and to nothing being cached.
"""

import re
from collections.abc import Iterator

from gateway.config.references import Where, kinds
from gateway.config.settings import StdioEntry, UpstreamEntry

_NAME = re.compile(
    r"token|secret|passw|passphrase|api[_-]?key|access[_-]?key|private[_-]?key|credential"
    r"|authorization|cookie|bearer|signature|[_-]key$|^key$",
    re.IGNORECASE,
)
_FORM = re.compile(
    r"\b(sk|pk|rk)[-_][A-Za-z0-9_-]{8,}|\bgh[pousr]_\w{8,}|\bgithub_pat_\w+|\bglpat-\S+"
    r"|\bxox[a-z]-\S+|\bsbp_\w+|\bfc-[0-9a-f]{8,}|\bAKIA[0-9A-Z]{12,}|\bAIza\S{8,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.|-----BEGIN|://[^/@\s:]+:[^/@\s]+@"
)
# A switch or a path is no secret, whatever it is called.
_HARMLESS = re.compile(r"|true|false|[01]|(/|\./|\.\./|~/|[A-Za-z]:\\).*", re.DOTALL)
# In text that people write, what only shows the form.
_EXAMPLE = re.compile(r"\.\.\.|xxx|example|your|placeholder|<|>", re.IGNORECASE)
_QUERY = re.compile(r"[?&]([^=&#]+)=([^&#]+)")


def plain_secrets(entry: UpstreamEntry) -> list[tuple[str | int, ...]]:
    """The keys in `entry` under which a secret seems to stand in plain text."""
    return list(dict.fromkeys(_places(entry)))


def secrets_in(text: str) -> Iterator[int]:
    """The lines of a text on which something of a well-known form of secrets stands."""
    for number, line in enumerate(text.splitlines(), 1):
        for found in _FORM.finditer(line):
            if "${" not in found[0] and not _EXAMPLE.search(found[0]):
                yield number
                break


def _places(entry: UpstreamEntry) -> Iterator[tuple[str | int, ...]]:
    if isinstance(entry, StdioEntry):
        for name, value in entry.env.items():
            if _is_secret(name, value):
                yield "env", name
        for index, argument in enumerate(entry.args):
            name, equals, value = argument.partition("=")
            if equals and name.startswith("-") and _is_secret(name, value):
                yield "args", index
            before = entry.args[index - 1] if index else ""
            named = before.startswith("-") and not argument.startswith("-") and "=" not in before
            if _is_secret(before if named else "", argument):
                yield "args", index
    else:
        for name, value in entry.headers.items():
            if _is_secret(name, value):
                yield "headers", name
        if _FORM.search(entry.url) or any(
            _is_secret(name, value) for name, value in _QUERY.findall(entry.url)
        ):
            yield ("url",)


def _is_secret(name: str, value: str) -> bool:
    if _HARMLESS.fullmatch(value) or kinds(value, where=Where("", 0, "")):
        return False
    return _NAME.search(name) is not None or _FORM.search(value) is not None
