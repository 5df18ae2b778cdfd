"""What is suspicious in what upstreams say: hidden text, orders to the model, shadowing (pure).

Signs only, for a person to look at: nothing is enforced, and what is not found may be there. The
patterns are few, so that what they find is worth a look.
"""

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from typing import Literal

import msgspec

from gateway.catalog.listing import ToolEntry, UpstreamCatalog

Code = Literal[
    "hidden-text", "hidden-whitespace", "model-instruction", "foreign-tool", "confusable-upstreams"
]

MAX_TEXT_CHARS = 100_000
"""How much of one text is looked at."""
_MAX_PARTS = 2_000
_MAX_SUSPICIONS = 50


class Suspicion(msgspec.Struct, frozen=True):
    """One sign. `tool` is a tool id, "" where it is about the upstream; `message` a sentence."""

    code: Code
    upstream: str
    tool: str
    message: str


class Told(msgspec.Struct, frozen=True):
    """What one upstream says: its catalog, the tools that are looked at, and its instructions."""

    catalog: UpstreamCatalog
    tools: Collection[str]
    instructions: str | None = None


def scan(told: Mapping[str, Told], names: Collection[str] = ()) -> tuple[Suspicion, ...]:
    """The signs in what upstreams say, by upstream; at most 50 of each of them.

    `names` are those of upstreams of which nothing else is known.
    """
    found = list(_confusable(list(dict.fromkeys((*told, *names)))))
    owners = _owners(told.values())
    for name, each in told.items():
        signs = _of_upstream(name, each, owners)
        found += [sign for _, sign in zip(range(_MAX_SUSPICIONS), signs, strict=False)]
    return tuple(found)


def _of_upstream(name: str, told: Told, owners: Mapping[str, set[str]]) -> Iterator[Suspicion]:
    if told.instructions is not None:
        yield from _of_text(name, "", "its instructions", told.instructions, owners)
    for tool in told.tools:
        entry = told.catalog.tools.get(tool)
        for where, text in _texts(entry) if entry is not None else ():
            yield from _of_text(name, entry.tool_id if entry else "", where, text, owners)


def _of_text(
    upstream: str, tool: str, where: str, text: str, owners: Mapping[str, set[str]]
) -> Iterator[Suspicion]:
    text = text[:MAX_TEXT_CHARS]
    for code, what in _signs(text):
        yield Suspicion(code, upstream, tool, f"{_subject(upstream, tool)}: {where} {what}.")
    for foreign in _foreign(text, upstream, owners):
        orders = "tells the model when to use" if _ORDER.search(text) else "speaks of"
        others = ", ".join(sorted(owners.get(foreign, ()))) or foreign.split("__")[1]
        yield Suspicion(
            "foreign-tool",
            upstream,
            tool,
            f"{_subject(upstream, tool)}: {where} {orders} {foreign}, a tool of {others}.",
        )


def _subject(upstream: str, tool: str) -> str:
    return tool or f"The upstream {upstream!r}"


def _texts(entry: ToolEntry) -> Iterator[tuple[str, str]]:
    """Every key and text of a definition with where it stands; a bounded number of them."""
    waiting: list[tuple[str, object]] = [("", entry.definition)]
    for _ in range(_MAX_PARTS):
        if not waiting:
            return
        where, value = waiting.pop()
        if isinstance(value, str):
            yield f"its {where}", value
        elif isinstance(value, list):
            waiting += [(f"{where}[{index}]", each) for index, each in enumerate(value)][::-1]
        elif isinstance(value, dict):
            for key in value:
                yield f"a name in its {where or 'definition'}", key
            inner = [(f"{where}.{key}".lstrip("."), each) for key, each in value.items()]
            waiting += inner[::-1]


# Texts by themselves

_KINDS = (
    ("a terminal escape", re.compile("[\x1b\x9b]")),
    ("a control character", re.compile("[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9a\x9c-\x9f]")),
    ("a bidirectional control", re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")),
    ("an invisible tag character", re.compile("[\U000e0000-\U000e007f]")),
    (
        # Joiners belong into emoji and into some scripts, but not between plain letters.
        "an invisible character",
        re.compile(
            "[\u00ad\u034f\u115f\u1160\u180e\u200b\u2060-\u2064\u206a-\u206f\u3164\ufeff\uffa0]"
            "|(?<=[\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?=[\x00-\x7f])"
            "|[\U000e0100-\U000e01ef]"
        ),
    ),
)
_SPACES = re.compile(r"[^\S\n]{60,}(?=\S)|\n(?:[^\S\n]*\n){20,}(?=[^\S\n]*\S)")
_TO_THE_MODEL = (
    re.compile(
        r"\b(?:ignore|disregard|forget|override)\s+(?:all\s+|any\s+)?(?:of\s+)?(?:the\s+|your\s+)?"
        r"(?:previous|prior|above|earlier|system)\s+(?:instruction|prompt|rule|message)s?",
        re.IGNORECASE,
    ),
    re.compile(
        r"\b(?:do\s+not|don['\u2019]t|never|without)\s+"
        r"(?:tell|inform|mention|reveal|show|notify|alert)(?:ing)?"
        r"(?:\s+(?:this|that|it|anything))?(?:\s+to)?\s+the\s+user",
        re.IGNORECASE,
    ),
    re.compile(r"<\s*/?\s*(?:important|system|secret|instructions?)\s*>", re.IGNORECASE),
)
_ORDER = re.compile(
    r"\b(?:always|never|must|instead|before|after|first|rather\s+than|do\s+not|don['\u2019]t|"
    r"prefer|required?\s+to|when(?:ever)?)\b",
    re.IGNORECASE,
)


def _signs(text: str) -> Iterator[tuple[Code, str]]:
    if not (text.isascii() and text.isprintable()):
        for kind, pattern in _KINDS:
            found = pattern.search(text)
            if found is not None:
                code = f"U+{ord(found[0][0]):04X}"
                yield "hidden-text", f"has {kind} ({code}) at character {found.start() + 1}"
    found = _SPACES.search(text)
    if found is not None:
        yield "hidden-whitespace", f"has text behind {len(found[0])} blanks"
    for pattern in _TO_THE_MODEL:
        found = pattern.search(text)
        if found is not None:
            yield "model-instruction", f"speaks to the model: {' '.join(found[0].split())!r}"


# Texts about others

_TOKEN = re.compile(r"[A-Za-z0-9_-]+")
_TELLING = re.compile(r"[a-z0-9][_-][a-z0-9]|[a-z][A-Z]")
_LEAST_CHARS = 6


def _owners(told: Collection[Told]) -> dict[str, set[str]]:
    """Which upstreams a name of a tool belongs to; names that may be plain words are left out."""
    owners: dict[str, set[str]] = {}
    for each in told:
        for entry in each.catalog.tools.values():
            owners.setdefault(entry.tool_id, set()).add(each.catalog.upstream)
            if len(entry.name) >= _LEAST_CHARS and _TELLING.search(entry.name):
                owners.setdefault(entry.name, set()).add(each.catalog.upstream)
    return owners


def _foreign(text: str, upstream: str, owners: Mapping[str, set[str]]) -> list[str]:
    """The names in a text that belong to tools of other upstreams, and to none of its own."""
    tokens = dict.fromkeys(_TOKEN.findall(text))
    return [token for token in tokens if (known := owners.get(token)) and upstream not in known]


# Names of upstreams

_LOOKS_LIKE = str.maketrans({"0": "o", "1": "l", "i": "l", "5": "s", "-": "", "_": "", ".": ""})
_LEAST_WORD = 5


def _confusable(names: list[str]) -> Iterator[Suspicion]:
    for position, name in enumerate(names):
        for other in names[:position]:
            if _look_alike(name, other):
                yield Suspicion(
                    "confusable-upstreams",
                    name,
                    "",
                    f"The upstreams {other!r} and {name!r} are easily taken for one another.",
                )


def _look_alike(one: str, other: str) -> bool:
    if _skeleton(one) == _skeleton(other):
        return True
    words = [re.split(r"[-_.\s]+", name.lower()) for name in (one, other)]
    if len(words[0]) != len(words[1]):
        return False
    differing = [pair for pair in zip(*words, strict=True) if pair[0] != pair[1]]
    return len(differing) == 1 and _misspelt(*differing[0])


def _skeleton(name: str) -> str:
    plain = unicodedata.normalize("NFKC", name).casefold()
    return plain.translate(_LOOKS_LIKE).replace("rn", "m").replace("vv", "w")


def _misspelt(one: str, other: str) -> bool:
    """Whether two words are one letter apart: changed, left out, or exchanged with the next."""
    if min(len(one), len(other)) < _LEAST_WORD or not (one.isalpha() and other.isalpha()):
        return False
    if len(one) == len(other):
        apart = [index for index in range(len(one)) if one[index] != other[index]]
        if len(apart) == 1:
            return True
        exchanged = len(apart) == 2 and apart[1] == apart[0] + 1
        return exchanged and (one[apart[0]], one[apart[1]]) == (other[apart[1]], other[apart[0]])
    short, long = sorted((one, other), key=len)
    return len(long) == len(short) + 1 and any(
        long[:index] + long[index + 1 :] == short for index in range(len(long))
    )
