"""Which names a client sees: an upstream's own (mirror), or many under prefixes (aggregate)."""

from collections.abc import Iterable
from typing import Protocol

from gateway.catalog.names import normalise
from gateway.errors import UserError


class Surface(Protocol):
    """The names of one connection.

    `aggregate` tells whether many upstreams stand behind it.
    """

    upstreams: tuple[str, ...]
    aggregate: bool

    def find(self, exposed: str) -> tuple[str, str]:
        """The upstream and its own name for an exposed tool or prompt; upstream "" for nobody's."""

    def expose(self, upstream: str, name: str) -> str:
        """The name under which the client sees an upstream's tool or prompt."""


class Mirror:
    """One upstream under its own names."""

    aggregate = False

    def __init__(self, upstream: str) -> None:
        self.upstreams: tuple[str, ...] = (upstream,)

    def find(self, exposed: str) -> tuple[str, str]:
        """Every name is the upstream's own."""
        return self.upstreams[0], exposed

    def expose(self, upstream: str, name: str) -> str:
        """Every name is the upstream's own."""
        return name


class Aggregate:
    """Many upstreams; a name is exposed as `<upstream>__<name>`.

    No upstream's prefix may begin with another's, so that each exposed name has one owner: names
    are looked up among the prefixes, never split. Raises UserError otherwise.
    """

    aggregate = True

    def __init__(self, upstreams: Iterable[str]) -> None:
        self.upstreams: tuple[str, ...] = tuple(upstreams)
        self._prefixes = {name: f"{normalise(name)}__" for name in self.upstreams}
        self._owners = {prefix: name for name, prefix in self._prefixes.items()}
        self._lengths = sorted({len(prefix) for prefix in self._owners})
        for name, prefix in self._prefixes.items():
            for other_name, other in self._prefixes.items():
                if other_name != name and other.startswith(prefix):
                    raise UserError(
                        f"the upstreams {name!r} and {other_name!r} cannot be served together: a "
                        f"name that begins with {other!r} could belong to both; rename one of them"
                    )

    def find(self, exposed: str) -> tuple[str, str]:
        """Look the prefix up."""
        for length in self._lengths:
            owner = self._owners.get(exposed[:length])
            if owner is not None:
                return owner, exposed[length:]
        return "", exposed

    def expose(self, upstream: str, name: str) -> str:
        """The upstream's name, "__", and the name there."""
        return self._prefixes[upstream] + name
