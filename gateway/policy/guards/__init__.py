"""Guards: what an argument must be that JSON Schema cannot say, each a keyword of the schema.

The gateway brings `sql`, `url`, `path` and `size`. Others come from installed packages, by the
entry point group `mcp_tool_gateway.guards`: the entry's name is the keyword, its object a subclass
of `Guard`. Nothing is imported before a guard is asked for.
"""

from importlib import import_module

from gateway.policy.guards.base import Guard, OptionsError

GROUP = "mcp_tool_gateway.guards"

_OWN = {
    "path": ("gateway.policy.guards.path", "PathGuard"),
    "size": ("gateway.policy.guards.size", "SizeGuard"),
    "sql": ("gateway.policy.guards.sql", "SqlGuard"),
    "url": ("gateway.policy.guards.url", "UrlGuard"),
}

__all__ = ["GROUP", "Guard", "OptionsError", "UnknownGuard", "build", "load", "names"]


class UnknownGuard(Exception):  # noqa: N818 - it says what is missing
    """There is no such guard, or it cannot be loaded; the text is a sentence for the operator."""


def names() -> tuple[str, ...]:
    """The names of all guards, sorted. An installed one never takes the place of an own one."""
    from importlib.metadata import entry_points  # it takes longer than all else here

    return tuple(sorted({*_OWN, *(entry.name for entry in entry_points(group=GROUP))}))


def load(name: str) -> type[Guard]:
    """The guard of that name. Raises UnknownGuard."""
    own = _OWN.get(name)
    if own is not None:
        module, attribute = own
        try:
            loaded = getattr(import_module(module), attribute)
        except ImportError as error:
            raise UnknownGuard(f"the guard {name!r} cannot be loaded: {error}") from error
    else:
        loaded = _installed(name)
    if not (isinstance(loaded, type) and issubclass(loaded, Guard)):
        raise UnknownGuard(f"what is installed as the guard {name!r} is not a subclass of Guard")
    return loaded


def build(name: str, options: object) -> Guard:
    """A guard with the options that stand in the schema. Raises UnknownGuard and OptionsError."""
    return load(name)(options)


def _installed(name: str) -> object:
    from importlib.metadata import entry_points

    found = tuple(entry_points(group=GROUP, name=name))
    if not found:
        raise UnknownGuard(f"there is no guard {name!r}; there are {', '.join(names())}")
    if len({entry.value for entry in found}) > 1:
        raise UnknownGuard(f"two installed packages bring a guard {name!r}: remove one")
    try:
        return found[0].load()
    except Exception as error:  # somebody else's module
        raise UnknownGuard(f"the guard {name!r} cannot be loaded: {error}") from error
