"""Which names say that what stands beside them is a secret."""

import re
from typing import Final

_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_OTHER: Final = re.compile(r"[^a-z0-9]+")
MAX_NAME_CHARS: Final = 128
"""Names longer than this are looked at by their end only."""

MARKER_BEGIN: Final = "[redacted: "
"""What stands where a secret was taken out, which is no name itself."""

# A last word that says that the value is about a secret, not one.
_ABOUT: Final = frozenset(
    (
        *("name", "names", "count", "length", "size", "type", "kind", "policy", "expiry", "ttl"),
        *("expires", "expiration", "at", "in", "limit", "limits", "budget", "usage", "version"),
        *("arn", "field", "selector", "label", "title", "hint", "required", "enabled", "status"),
        *("min", "max", "path", "file", "ids"),
    )
)
_PAGES: Final = frozenset(
    ("page", "next", "continuation", "sync", "resume", "cursor", "previous", "prev", "start")
)
_KEYS: Final = frozenset(
    (
        *("api", "access", "private", "secret", "signing", "encryption", "account", "shared"),
        *("service", "role", "master", "auth", "ssh", "deploy", "license", "licence", "session"),
        *("subscription", "admin", "anon", "storage", "functions", "write", "ingest"),
    )
)
_PASSWORDS: Final = ("password", "passwd", "passphrase", "passcode", "passwort", "pwd")
_WORDS: Final = {
    "authorization": "authorization",
    "auth": "authorization",
    "bearer": "authorization",
    "cookie": "cookie",
    "cookies": "cookie",
    "credential": "credential",
    "credentials": "credential",
    "jwt": "token",
    "otp": "password",
    "totp": "password",
    "pin": "password",
    "cvv": "password",
    "cvc": "password",
    "sig": "signature",
    "signature": "signature",
    "mnemonic": "secret",
}
"""Words that say it where they are the last one."""
_ALONE: Final = frozenset(("auth", "bearer", "pin", "signature", "sig"))
"""Those of them that say it only alone, or behind `x` and the name of a cloud."""
_BEFORE_ALONE: Final = frozenset(("x", "amz", "goog", "ms", "proxy", "http"))
_JOINED: Final = re.compile(r"(?:api|access|secret|private|account|auth|shared|signing|master)key$")


def secret_name(name: str) -> str | None:
    """What kind of secret stands under this name, None where none: apiKey, X-API-Key, API_KEY."""
    words = _words(name[-MAX_NAME_CHARS:])
    if not words or MARKER_BEGIN in name:
        return None
    last, before = words[-1], words[:-1]
    if last in _ABOUT:
        return None
    if any(part in word for word in words for part in _PASSWORDS):
        return "password"
    if "secret" in words or last.endswith("secret") or last == "secrets":
        return "secret"
    if last.endswith("token"):
        page = before[-1] if before and last == "token" else last.removesuffix("token")
        return None if page in _PAGES else "token"
    if last == "tokens":
        return "token" if before and before[-1] in ("access", "refresh", "auth", "api") else None
    if (last in ("key", "keys") and before and before[-1] in _KEYS) or _JOINED.search(last):
        return "key"
    if last in ("string", "str") and before and before[-1] in ("connection", "conn"):
        return "connection-string"
    if last in ("connectionstring", "connstr"):
        return "connection-string"
    kind = _WORDS.get(last)
    if kind is None or (last in _ALONE and not _BEFORE_ALONE.issuperset(before)):
        return None
    return kind


def _words(name: str) -> list[str]:
    spaced = name if name.islower() or name.isupper() else _CAMEL.sub("_", name)
    return [word for word in _OTHER.split(spaced.lower()) if word]
