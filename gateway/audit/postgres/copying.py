"""Copies journals to the store: each from where the store says that its copy ends."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.audit.postgres.address import StoreUnavailable, said
from gateway.audit.postgres.schema import WRITER
from gateway.audit.postgres.source import Differs, Place, Source, after
from gateway.audit.records import NO_RECORD

if TYPE_CHECKING:
    import psycopg

_APPEND: Final = "SELECT gateway_audit.append(%s, %s, %b)"
_HEADS: Final = """
SELECT name, seq, digest, size_bytes FROM gateway_audit.journal WHERE name = ANY(%s)
"""
# What is wrong with the records themselves: data, constraints, limits, and what `append` raises.
_OF_RECORDS: Final = ("22", "23", "54", "GA")
_ATTEMPTS: Final = 5


class Head(msgspec.Struct, frozen=True):
    """How far the store has a journal."""

    seq: int = 0
    digest: str = NO_RECORD
    size_bytes: int = 0


class Copier:
    """One connection to the store, as a gateway's role has it."""

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self._connection = connection

    def heads(self, writers: Iterable[str]) -> dict[str, Head]:
        """How far the store has these journals; what it has nothing of is missing.

        Raises StoreUnavailable.
        """
        import psycopg

        names = list(writers)
        if not names:
            return {}
        try:
            rows = self._connection.execute(_HEADS, (names,)).fetchall()
        except psycopg.Error as error:
            raise _unavailable(error) from None
        return {name: Head(*values) for name, *values in rows}

    def copied(self, sources: Mapping[str, Source]) -> dict[str, int]:
        """How many bytes of each segment of these journals the store has.

        Of a journal that differs from its copy it has none. Raises OSError, StoreUnavailable.
        """
        found: dict[str, int] = {}
        for writer, head in self.heads(sources).items():
            with suppress(Differs):
                found.update(sources[writer].copied(head.seq, head.digest))
        return found

    def copy(self, source: Source, place: Place | None = None) -> Place:
        """Copy all that a journal has beyond `place`, or beyond what the store has.

        The end of what is there now. Raises Differs where the two do not agree, or the store does
        not take what follows; OSError; StoreUnavailable.
        """
        for _ in range(_ATTEMPTS):
            if place is None or not source.has(place):
                head = self.heads([source.writer]).get(source.writer, Head())
                place = source.place_after(head.seq, head.digest)
            for begin, block in source.blocks(place):
                place = self._append(source.writer, begin, block)
                if place is None:
                    break  # somebody else has copied some of it: see how far
            else:
                return place
        raise StoreUnavailable("other gateways copy the same journal at the same time")

    def _append(self, writer: str, place: Place, block: bytes) -> Place | None:
        """Append a block whole; None where the store's copy does not end where it begins."""
        import psycopg

        try:
            row = self._connection.execute(_APPEND, (writer, place.seq, block)).fetchone()
        except psycopg.Error as error:
            if not (error.sqlstate or "").startswith(_OF_RECORDS):
                raise _unavailable(error) from None
            half = block.find(b"\n", len(block) // 2)
            half = block.rfind(b"\n") if half < 0 else half
            if half < 0:
                raise Differs(f"the store refuses record {place.seq + 1}: {said(error)}") from None
            # The good ones of them are copied, one half after the other.
            following = self._append(writer, place, block[:half])
            return following and self._append(writer, following, block[half + 1 :])
        end = after(place, block)
        if row is None or row[0] is None:
            return None
        return end


def _unavailable(error: "psycopg.Error") -> StoreUnavailable:
    if error.sqlstate == "42501":
        return StoreUnavailable(f"the role may not append; grant it {WRITER}")
    return StoreUnavailable(said(error))
