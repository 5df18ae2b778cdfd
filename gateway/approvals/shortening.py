"""Arguments as a person is shown them: without secrets, and cut so that it takes a bounded time.

Imported only where somebody is asked.
"""

from itertools import islice
from typing import Final

from gateway.redaction.redactor import Redactor

MAX_VALUE_CHARS: Final = 4000
"""Of one text: what is longer shows its beginning and its end."""
TAIL_CHARS: Final = 1000
_EXAMINED_CHARS: Final = 8 * 1024
"""Of the beginning and of the end of one text this much is searched for secrets."""
_MARGIN_CHARS: Final = 2 * 1024
"""What is not shown of that where it was cut out: half a secret is not recognised."""
_EXAMINED_IN_ALL: Final = 128 * 1024
_MAX_ITEMS: Final = 500  # of one object or list


class Cut(str):
    """A text of which the middle is missing; as a text, it says so itself."""

    __slots__ = ("head", "left_out", "tail")

    head: str
    tail: str
    left_out: int

    @classmethod
    def of(cls, head: str, tail: str, left_out: int) -> "Cut":
        """What is shown of a text, and how many characters are not."""
        made = cls(f"{head} [{left_out} characters are not shown here] {tail}")
        made.head, made.tail, made.left_out = head, tail, left_out
        return made


class Shortening(Redactor):
    """Takes secrets out of a JSON value and shortens it; `cut` tells whether anything is missing.

    Keys are not shortened.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cut = False
        self._room = _EXAMINED_IN_ALL

    def text(self, text: str) -> str:
        if len(text) <= MAX_VALUE_CHARS:
            self._room -= len(text)
            return super().text(text)
        self.cut = True
        if len(text) <= _EXAMINED_CHARS:
            self._room -= len(text)
            clean = super().text(text)
            if len(clean) <= MAX_VALUE_CHARS:
                self.cut = False
                return clean
            head, tail = clean[: MAX_VALUE_CHARS - TAIL_CHARS], clean[-TAIL_CHARS:]
            return Cut.of(head, tail, len(clean) - MAX_VALUE_CHARS)
        self._room -= 2 * _EXAMINED_CHARS
        head = super().text(text[:_EXAMINED_CHARS])
        tail = super().text(text[-_EXAMINED_CHARS:])
        head = head[: max(0, len(head) - _MARGIN_CHARS)][: MAX_VALUE_CHARS - TAIL_CHARS]
        tail = tail[_MARGIN_CHARS:][-TAIL_CHARS:]
        return Cut.of(head, tail, len(text) - len(head) - len(tail))

    def _value(self, value: object, kind: str | None, depth: int) -> object:
        if self._room <= 0 and not isinstance(value, bool | int | float | None):
            self.cut = True
            return "[not shown]"
        if isinstance(value, dict | list | tuple):
            self._room -= len(value)
            if len(value) > _MAX_ITEMS:
                self.cut = True
                value = (
                    dict(islice(value.items(), _MAX_ITEMS))
                    if isinstance(value, dict)
                    else value[:_MAX_ITEMS]
                )
        return super()._value(value, kind, depth)
