"""A listing that comes in pages, gathered into one."""

from typing import Literal

import msgspec

from gateway.wire.envelope import MAX_DEPTH, Response
from gateway.wire.params import Params, is_deep

LIST_MEMBERS = {
    "tools/list": "tools",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
    "prompts/list": "prompts",
}
"""The member of the result that holds the items, by method."""

_MAX_PAGES = 2_000
_OF_AN_ERA = ("resultType", "ttlMs", "cacheScope")
"""Members that only the stateless revisions have; the client's side puts them in where needed."""

_decode = msgspec.json.Decoder(dict[str, object]).decode


class Pages:
    """The items of a listing so far, and what else the first page's result said.

    `problem` says why the listing cannot be used, once `add` answered "failed" for a result.
    `ttl_ms` is how long the upstream calls it fresh.
    """

    def __init__(self, member: str, max_items: int) -> None:
        self._max_items = max_items
        self.items: list[object] = []
        self.first: dict[str, object] = {}
        self.problem = ""
        self.ttl_ms: int | None = None
        self._member = member
        self._cursor: str | None = None
        self._cursors: set[str] = set()

    def next_params(self) -> Params:
        """The params that ask for the next page."""
        return {} if self._cursor is None else {"cursor": self._cursor}

    def add(self, response: object) -> Literal["more", "complete", "failed"]:
        """Take the answer to the last request for a page."""
        if not isinstance(response, Response) or response.result is None:
            return "failed"
        try:
            result = _decode(response.result)
        except (msgspec.DecodeError, RecursionError):
            return self._fail("its result is not an object")
        if is_deep(result):
            return self._fail(f"its result is nested deeper than {MAX_DEPTH} levels")
        for member in _OF_AN_ERA:
            held = result.pop(member, None)
            if member == "ttlMs" and isinstance(held, int):
                self.ttl_ms = held if self.ttl_ms is None else min(held, self.ttl_ms)
        items = result.pop(self._member, None)
        if not isinstance(items, list):
            return self._fail(f"its result has no list {self._member!r}")
        cursor = result.pop("nextCursor", None)
        if not self._cursors:
            self.first = result
        self.items.extend(items)
        if len(self.items) > self._max_items:
            return self._fail(f"it has more than {self._max_items} items (limits.max_tools)")
        if cursor is None:
            return "complete"
        if not isinstance(cursor, str) or cursor in self._cursors:
            return self._fail("it gives the same cursor again, or one that is no string")
        self._cursors.add(cursor)
        self._cursor = cursor
        if len(self._cursors) > _MAX_PAGES:
            return self._fail("it is endless")
        return "more"

    def members(self, items: list[object]) -> dict[str, object]:
        """The first page's result with `items` in place of its own, and no cursor."""
        return {**self.first, self._member: items}

    def _fail(self, problem: str) -> Literal["failed"]:
        self.problem = problem
        return "failed"
