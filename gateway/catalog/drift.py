"""Named tools that an upstream no longer offers, each with its likeliest successor.

Of a tool that is gone only the name is known, so its words are looked for among the offered tools:
in their names first, then in titles, schemas and descriptions. There is no list of renamings.
"""

import difflib
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from gateway.catalog.listing import ToolEntry, UpstreamCatalog
from gateway.catalog.names import normalise

# What finding a word is worth, by where it stands. A description alone never suffices: it is long,
# and mentions much that the tool does not do.
_IN_NAME = 1.0
_IN_TITLE = 0.7
_IN_SCHEMA = 0.6
_IN_DESCRIPTION = 0.4

# Words for looking something up, which servers exchange for one another when they rename.
_LOOK_UP = frozenset(
    [
        *("describe", "fetch", "find", "get", "inspect", "list", "load", "lookup", "query"),
        *("read", "resolve", "retrieve", "search", "show", "view"),
    ]
)
_OTHER_LOOK_UP = 0.6

_LIKELY = 0.6
_ALIKE = 0.8
_TELLING = 0.5
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

# Bounds, because an upstream writes what is compared here.
_MAX_CANDIDATES = 2_000
_MAX_NAME_CHARS = 128
_MAX_TEXT_CHARS = 4_000
_MAX_SCHEMA_PARTS = 500


class Vanished(msgspec.Struct, frozen=True):
    """A tool, by its normalised name, that is not offered.

    `successor` is the raw name of the offered tool that most likely took its place, None where no
    offered tool resembles it enough.
    """

    name: str
    successor: str | None


def vanished(named: Iterable[str], catalog: UpstreamCatalog) -> tuple[Vanished, ...]:
    """Which of the normalised names `named` the upstream does not list, in their order.

    What it lists but is withheld has not vanished. A named tool is nobody's successor.
    """
    named = tuple(dict.fromkeys(named))
    listed = {normalise(name) for name in itertools.chain(catalog.tools, catalog.withheld)}
    gone = [name for name in named if name not in listed]
    if not gone:
        return ()
    successors = _Successors(catalog, gone, known=frozenset(named))
    return tuple(Vanished(name, successors.of(name)) for name in gone)


class _Candidate(msgspec.Struct, frozen=True):
    name: str
    places: tuple[tuple[float, frozenset[str]], ...]
    """Words of the definition by what finding one is worth, the best place first."""


class _Successors:
    """The offered tools as candidates, and how much each word says on this upstream."""

    def __init__(self, catalog: UpstreamCatalog, gone: list[str], known: frozenset[str]) -> None:
        unnamed = (tool for name, tool in catalog.tools.items() if normalise(name) not in known)
        self._candidates = [_candidate(tool) for tool in itertools.islice(unnamed, _MAX_CANDIDATES)]
        names = [*gone, *itertools.islice(catalog.tools, _MAX_CANDIDATES)]
        borne_by = Counter(itertools.chain.from_iterable(map(_words, names)))
        # What most names of an upstream bear, often its own name, tells its tools apart the least.
        self._weights = {word: 1 - count / (len(names) + 5) for word, count in borne_by.items()}
        self._alike_words: dict[str, frozenset[str]] = {}
        self._vocabulary = sorted(
            frozenset().union(*(candidate.places[0][1] for candidate in self._candidates))
        )

    def of(self, name: str) -> str | None:
        """The likeliest successor of `name`, None where none is likely."""
        words = {word: self._alike(word) for word in _words(name)}
        best: tuple[float, float, str] | None = None
        for candidate in self._candidates:
            likelihood = self._likelihood(words, candidate)
            if likelihood >= _LIKELY:
                match = (likelihood, _ratio(name, candidate.name), candidate.name)
                best = match if best is None else max(best, match)
        return best[2] if best is not None else None

    def _likelihood(self, words: Mapping[str, frozenset[str]], candidate: _Candidate) -> float:
        """The share of `words`, each with those alike, that is found in a candidate: 0 to 1.

        It is 0 where no word that tells something about the tool is in the name or the title.
        """
        found = total = 0.0
        anchored = False
        in_name = candidate.places[0][1]
        for word, alike in words.items():
            weight = self._weights[word]
            worth = next((worth for worth, place in candidate.places if word in place), 0.0)
            if alike & in_name:
                worth = max(worth, _ALIKE)
            if word in _LOOK_UP:
                if in_name & _LOOK_UP:
                    worth = max(worth, _OTHER_LOOK_UP)
            elif weight > _TELLING and worth >= _IN_TITLE:
                anchored = True
            found += weight * worth
            total += weight
        return found / total if anchored else 0.0

    def _alike(self, word: str) -> frozenset[str]:
        """Words of candidates' names that are another form or spelling of `word`."""
        if word in _LOOK_UP:
            return frozenset()
        if word not in self._alike_words:
            close = difflib.get_close_matches(word, self._vocabulary, n=5, cutoff=_ALIKE)
            self._alike_words[word] = frozenset(close)
        return self._alike_words[word]


def _candidate(tool: ToolEntry) -> _Candidate:
    definition = tool.definition
    annotations = definition.get("annotations")
    titles = [definition.get("title")]
    if isinstance(annotations, dict):
        titles.append(annotations.get("title"))
    schema = itertools.islice(_schema_texts(definition.get("inputSchema")), _MAX_SCHEMA_PARTS)
    return _Candidate(
        tool.name,
        (
            (_IN_NAME, _words(tool.name)),
            (_IN_TITLE, _words_of(titles)),
            (_IN_SCHEMA, _words_of(schema)),
            (_IN_DESCRIPTION, _words_of([definition.get("description")])),
        ),
    )


def _schema_texts(schema: object) -> Iterator[object]:
    """The names of a schema's properties, and the values that it enumerates."""
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting.extend(part)
        elif isinstance(part, dict):
            properties = part.get("properties")
            if isinstance(properties, dict):
                yield from properties
                waiting.extend(properties.values())
            values = part.get("enum")
            yield from values if isinstance(values, list) else ()
            yield part.get("const")
            waiting.extend(part.get(key) for key in ("items", "anyOf", "oneOf", "allOf"))


def _words_of(texts: Iterable[object]) -> frozenset[str]:
    return frozenset().union(
        *(_words(text[:_MAX_TEXT_CHARS]) for text in texts if isinstance(text, str))
    )


def _words(text: str) -> frozenset[str]:
    """The words of a name or a text in lower case and in the singular."""
    return frozenset(_singular(word.lower()) for word in _WORD.findall(text))


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith("s") and not word.endswith("ss") and len(word) > 2:
        return word[:-1]
    return word


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(
        None, one[:_MAX_NAME_CHARS], other[:_MAX_NAME_CHARS], autojunk=False
    ).ratio()
