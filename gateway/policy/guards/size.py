"""The guard `size`: how large a value may be."""

import msgspec

from gateway.policy.guards.base import Guard, OptionsError, read_options


class SizeOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`max_bytes`: of a text in UTF-8, of anything else as compact JSON. `max_items`: of any one
    list or mapping. `max_depth`: lists and mappings inside each other."""

    max_bytes: int | None = None
    max_items: int | None = None
    max_depth: int | None = None


class SizeGuard(Guard):
    """Refuses what is larger than the options say."""

    def __init__(self, options: object) -> None:
        self._options = read_options(options, SizeOptions)
        given = msgspec.structs.asdict(self._options)
        for key, limit in given.items():
            if limit is not None and limit < 0:
                raise OptionsError(key, "must not be negative")
        if all(limit is None for limit in given.values()):
            raise OptionsError("", "give max_bytes, max_items or max_depth")

    def check(self, value: object) -> str | None:
        """See `Guard.check`."""
        options = self._options
        # Outside in, level by level: no recursion that a nested value could exhaust.
        depth, level = 0, [value]
        while level := [each for each in level if isinstance(each, list | dict)]:
            depth += 1
            if options.max_depth is not None and depth > options.max_depth:
                return f"The value is nested deeper than the {options.max_depth} allowed levels."
            if options.max_items is not None and any(
                len(each) > options.max_items for each in level
            ):
                return f"The value has more than the {options.max_items} allowed items."
            level = [
                inner
                for each in level
                for inner in (each.values() if isinstance(each, dict) else each)
            ]
        if options.max_bytes is not None:
            size = _bytes(value)
            if size is None:
                return "The value is not valid Unicode."
            if size > options.max_bytes:
                return f"The value is larger than the {options.max_bytes} allowed bytes."
        return None


def _bytes(value: object) -> int | None:
    try:
        if isinstance(value, str):
            return len(value.encode())
        return len(msgspec.json.encode(value))
    except (UnicodeEncodeError, OverflowError, RecursionError, TypeError):
        return None
