"""Takes SQL apart as PostgreSQL's own scanner does, refusing what other parsers may read otherwise.

What a parser is then given is `plain()`: the same tokens without comments, every literal a
short plain one. No trick of quoting, escaping or commenting reaches it, so none can make it see
another statement than the server does.
"""

import re
from typing import Literal, NamedTuple

Kind = Literal["word", "quoted", "literal", "number", "parameter", "operator", "mark"]


class SqlRefusedError(Exception):
    """The text is refused; the message is a sentence for the model."""


class Token(NamedTuple):
    """`text` of a word is in lower case, of a quoted name what is between the quotes.

    `apart`: white space or a comment stands in front. `plain`: how a parser is shown it.
    """

    kind: Kind
    text: str
    plain: str
    apart: bool


_SCAN = re.compile(
    r"""
    (?P<space>[ \t\n\r\f]++)
  | (?P<line>--[^\n\r]*+)
  | (?P<block>/\*)
  | (?P<unicode>[uU]&['"])
  | (?P<escaped>[eE]'(?:[^'\\]|\\.|'')*+')
  | (?P<coded>[bBxXnN]'(?:[^']|'')*+')
  | (?P<string>'(?:[^']|'')*+')
  | (?P<dollar>\$(?:[A-Za-z_][A-Za-z0-9_]*+)?\$)
  | (?P<parameter>\$[0-9]++(?![A-Za-z0-9_$.\x80-\U0010ffff]))
  | (?P<quoted>"[^"]*+"(?!"))
  | (?P<word>[A-Za-z_][A-Za-z0-9_$]*+(?![\x80-\U0010ffff]))
  | (?P<number>(?:[0-9]++(?:\.(?!\.)[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?
      (?![A-Za-z0-9_$.\x80-\U0010ffff]))
  | (?P<operator>(?:(?!--|/\*)[-+*/<>=~!@#%^&|?])++)
  | (?P<mark>::|:=|[()\[\],;.:])
    """,
    re.VERBOSE | re.DOTALL,
)
_BLOCK = re.compile(r"/\*|\*/")
_LITERAL_SHOWN = re.compile(r"'[A-Za-z0-9 _:+\-]{1,64}'")
_NAME_BYTES = 63  # the server cuts longer ones
_SIGN_ENDS = frozenset("~!@#%^&|?")


def tokens(text: str) -> list[Token]:
    """The tokens of `text`. Raises SqlRefusedError; takes time in proportion to its length."""
    found: list[Token] = []
    position, apart = 0, False
    while position < len(text):
        match = _SCAN.match(text, position)
        if match is None:
            raise SqlRefusedError(_unmatched(text[position]))
        kind, written, position = match.lastgroup, match[0], match.end()
        if kind in ("space", "line"):
            apart = True
            continue
        if kind == "block":
            position, apart = _after_comment(text, position), True
            continue
        if kind == "dollar":
            end = text.find(written, position)
            if end < 0:
                raise SqlRefusedError("A dollar-quoted text has no end.")
            position = end + len(written)
        read = _read(kind or "", written)
        if read[0].kind == "literal":
            if position < len(text) and text[position] in "'\"":
                raise SqlRefusedError("Two quoted texts must not stand side by side.")
            if found and found[-1].kind == "literal":
                raise SqlRefusedError("Two quoted texts must not stand side by side.")
        found.append(read[0]._replace(apart=apart))
        found += read[1:]
        apart = False
    return found


def plain(read: list[Token]) -> str:
    """The text of these tokens for a parser."""
    return "".join(f" {token.plain}" if token.apart else token.plain for token in read).strip()


def nesting(text: str, limit: int) -> bool:
    """Whether brackets are nested deeper than `limit`, or might be: quotes are not looked at."""
    opened = text.count("(") + text.count("[")
    if opened <= limit:
        return False
    depth = 0
    for bracket in re.finditer(r"[()\[\]]", text):
        depth += 1 if bracket[0] in "([" else -1
        if depth > limit:
            return True
        depth = max(depth, 0)
    return False


def _read(kind: str, written: str) -> tuple[Token, ...]:
    match kind:
        case "word":
            _fits(written)
            return (Token("word", written.lower(), written.lower(), False),)
        case "quoted":
            return (_quoted(written[1:-1], written),)
        case "string":
            # Where standard_conforming_strings is off, the backslash keeps the text open.
            if re.search(r"\\'", written):
                raise SqlRefusedError("A backslash must not stand before a quote.")
            shown = written if _LITERAL_SHOWN.fullmatch(written) else "'s'"
            return (Token("literal", "", shown, False),)
        case "escaped" | "coded" | "dollar":
            return (Token("literal", "", "'s'", False),)
        case "number":
            return (Token("number", written, written, False),)
        case "parameter":
            return (Token("parameter", written, written, False),)
        case "operator":
            return _operators(written)
        case "mark":
            return (Token("mark", written, written, False),)
    raise SqlRefusedError("Unicode escapes (U&) are not allowed.")


def _quoted(name: str, written: str) -> Token:
    _fits(name)
    if not name or "\\" in name or not name.isprintable():
        raise SqlRefusedError("A quoted name has characters that are not allowed.")
    return Token("quoted", name, written, False)


def _fits(name: str) -> None:
    if len(name.encode(errors="replace")) > _NAME_BYTES:
        raise SqlRefusedError(f"A name is longer than {_NAME_BYTES} bytes.")


def _operators(written: str) -> tuple[Token, ...]:
    """As the server does: a sign at the end is one of its own, but for the odd operators."""
    signs: list[Token] = []
    if not _SIGN_ENDS & set(written):
        while len(written) > 1 and written[-1] in "+-":
            signs.insert(0, Token("operator", written[-1], written[-1], True))
            written = written[:-1]
    if written == "|>":
        raise SqlRefusedError("The pipe operator is not allowed.")
    return (Token("operator", written, written, False), *signs)


def _after_comment(text: str, position: int) -> int:
    if text[position : position + 1] in ("!", "+"):
        raise SqlRefusedError("Comments that some servers execute are not allowed.")
    mark = _BLOCK.search(text, position)
    if mark is None:
        raise SqlRefusedError("A comment has no end.")
    if mark[0] == "/*":
        raise SqlRefusedError("Comments inside comments are not allowed.")
    return mark.end()


def _unmatched(character: str) -> str:
    if character in "'\"$":
        return "A quoted text or name has no end."
    if character == "\\":
        return "Backslash commands are not SQL and not allowed."
    if character.isdigit() or character.isalpha():
        return "A number or name is not plain ASCII: put such names into double quotes."
    return "There is a character that has no place in SQL."
