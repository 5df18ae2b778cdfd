"""Finds secrets in text by the name in front of them: `password=...`, `"apiKey": "..."`."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Final

import msgspec

from gateway.redaction.names import MAX_NAME_CHARS, secret_name

_TELLING: Final = (
    *("passw", "pwd", "passphrase", "passcode", "secret", "token", "credential", "cookie"),
    *("authorization", "_key", "-key", "api key", "apikey", "accesskey", "secretkey"),
    *("privatekey", "accountkey", "sharedkey", "signingkey", "authkey", "masterkey"),
    *("connection_string", "connectionstring", "identified by"),
)
"""A part of every name that counts, in lower case. Names are judged whole afterwards."""

_NAMES_ONLY: Final = (
    *("auth", "bearer", "jwt", "otp", "pin", "cvv", "cvc", "sig", "mnemonic", "key", "connstr"),
    *("conn_str", "conn-str"),
)
"""What besides is in names of members that count."""

MARKER: Final = r"\[redacted: [a-z0-9-]{1,40}\]"

# From the part that was found to the value: the rest of the name, what quotes it, and what stands
# between. Quotes may be escaped.
_BETWEEN: Final = (
    r"(?P<rest>(?i:api key|identified by)|[A-Za-z0-9_.-]{1,64}+)"
    r"(?:[\"'`\\\]]{0,5}+)"
    r"(?P<sign>[ \t]{0,8}+(?:=>|:=|==|=|:)[ \t]{0,8}+|[ \t\r\n]{1,8}+)"
)
_VALUES: Final = {
    '"': r'"(?P<value>(?:[^"\\\r\n]|\\.)++)',
    "'": r"'(?P<value>(?:[^'\\\r\n]|\\.)++)",
    '\\"': r'\\{1,3}"(?P<value>(?:[^"\\\r\n]|\\[^"\\])++)',
    "\\'": r"\\{1,3}'(?P<value>(?:[^'\\\r\n]|\\[^'\\])++)",
}
_BARE: Final = rf"(?P<value>(?:{MARKER}|\$\{{[^}}\s]{{1,128}}\}}|[^\s\"'`,;&<>(){{}}\\|])++)"
_HEADER: Final = rf"(?P<value>(?:[A-Za-z]{{2,16}} {{1,4}})?+(?:{MARKER}|[^\s\"'`,;<>{{}}\\])++)"
_COOKIES: Final = r"(?P<value>[^\r\n\"'\\<>{}=]{1,256}+=[^\r\n\"'\\<>{}]++)"
_PLAIN_WORDS: Final = frozenset(
    (
        *("true", "false", "null", "none", "undefined", "string", "str", "text", "number", "int"),
        *("required", "optional", "the", "a", "an", "your", "is", "must", "not", "for", "to"),
        *("and", "or", "of", "in", "hidden", "missing", "invalid", "expired", "incorrect", "wrong"),
        *("basic", "bearer", "digest", "token", "password", "secret", "failed", "this", "that"),
    )
)
_NAMES: Final = r"[A-Za-z_]\w*(?:\.\w+)*(?:\[[A-Za-z_.]*)?"
_REFERENCE: Final = re.compile(
    r"\$\{[^}]*\}|\$[A-Z_][A-Z0-9_]*|\$[0-9]+|<[^>]*>|%[A-Za-z0-9_]+%|\*+|\.+"
)
_REFERENCE_CHARS: Final = 200


class Assignment(msgspec.Struct, frozen=True):
    """Where a secret stands in a text, and of what kind it is."""

    kind: str
    start: int
    end: int


def could_be_assigned(text: str) -> bool:
    """Whether there is any name in `text` that could be telling; members of JSON texts, too."""
    lowered = text.lower()
    return any(part in lowered for part in (*_TELLING, *_NAMES_ONLY))


def assignments(text: str) -> Iterator[Assignment]:
    """The values in `text` that stand behind a telling name, in their order, none over another."""
    position = 0
    for start in sorted(set(_occurrences(_lowered(text)))):
        if start >= position:
            found = _at(text, start)
            if found is not None:
                yield found
                position = found.end


def _lowered(text: str) -> str:
    lowered = text.lower()
    # A few characters become two, and positions must be those of the text.
    return lowered if len(lowered) == len(text) else "".join(map(_lower_one, text))


def _lower_one(character: str) -> str:
    return character.lower() if character.isascii() else character


def _occurrences(lowered: str) -> Iterator[int]:
    for part in _TELLING:
        start = lowered.find(part)
        while start >= 0:
            yield start
            start = lowered.find(part, start + len(part))


def _at(text: str, start: int) -> Assignment | None:
    between = _pattern(_BETWEEN).match(text, start)
    if between is None:
        return None
    begin = _beginning(text, start)
    name = text[begin : between.end("rest")]
    kind = "password" if name.lower() == "identified by" else secret_name(name)
    if kind is None:
        return None
    sign, end = between["sign"].strip(), between.end()
    quote = text[end : end + 4].lstrip("\\")[:1]
    quoted = quote in ("'", '"')
    if not sign and not text.startswith("--", begin) and not (quote == "'" and kind == "password"):
        # Behind a blank alone: PASSWORD 'x' of a database, or an option of a command.
        return None
    if not quoted and kind != "cookie" and text.startswith(":", end):
        return None  # a word of a program, such as secret::Key
    if kind == "password" and not quoted and "=" not in sign and text.startswith("/", end):
        return None  # a path, behind a word of a sentence
    # What was read to its end must not be rejected while the next one may begin in it: that would
    # be read to the same end again.
    if quoted:
        pattern = _VALUES[f"\\{quote}" if text[end] == "\\" else quote]
    elif kind == "authorization":
        pattern = _HEADER
    else:
        pattern = _COOKIES if kind == "cookie" and sign == ":" else _BARE
    found = _pattern(pattern).match(text, end)
    if found is None or not _is_value(kind, found["value"], sure=quoted or "=" in sign):
        return None
    if not quoted and kind != "cookie" and _is_code(text, found, between["sign"], kind):
        return None
    return Assignment(kind, found.start("value"), found.end("value"))


def _beginning(text: str, start: int) -> int:
    begin, least = start, max(0, start - MAX_NAME_CHARS)
    while begin > least and (text[begin - 1].isalnum() or text[begin - 1] in "_-."):
        begin -= 1
    return begin


def _is_code(text: str, found: re.Match[str], sign: str, kind: str) -> bool:
    """Whether what is not in quotes is part of a program, or of a sentence, and no secret."""
    value, after = found["value"].rpartition(" ")[2], text[found.end() : found.end() + 1]
    if value == "$" or value.startswith(":") or not any(map(str.isalnum, value)):
        return True
    if kind == "authorization" and value.isalpha() and value.isupper():
        return True  # Authorization: Bearer TOKEN
    if _pattern(_NAMES).fullmatch(value):
        # token = read(x), token = stored.token, and types: tuple[str, ...]
        dotted = kind != "password" and "." in value and value.islower()
        if after == "(" or "[" in value or (" = " in sign and dotted):
            return True
    goes_on = after in (" ", ".", "(", ")", "`", "|")
    return kind == "password" and ":" in sign and value.isalpha() and goes_on


def _is_value(kind: str, value: str, *, sure: bool) -> bool:
    """Whether it may be a secret; in plain sentences much stands behind a colon."""
    bare = value.strip()
    if not bare or bare.lower() in _PLAIN_WORDS or _pattern(f"(?:{MARKER}|\\s)++").fullmatch(bare):
        return False
    if len(bare) <= _REFERENCE_CHARS and _REFERENCE.fullmatch(bare):
        return False
    if kind == "cookie":
        return sure or "=" in bare
    if kind == "authorization":
        word = bare.rpartition(" ")[2]
        return sure or not word.isalpha() or not word[1:].islower()
    return sure or kind == "password" or (len(bare) >= 6 and not bare.isalpha())


@cache
def _pattern(source: str) -> re.Pattern[str]:
    return re.compile(source)
