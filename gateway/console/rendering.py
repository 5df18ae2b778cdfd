"""Templates, and how what stands in the log is shown in a page.

Names, arguments and reasons come from servers, models and files that nobody vouches for. Whatever
a template prints is HTML-escaped, and has characters that do not show themselves written as
escapes. `shown` and `foreign` also mark those escapes, by elements: they are not for attributes.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

import jinja2
from markupsafe import Markup

from gateway.escaping import escape, escaped

if TYPE_CHECKING:
    from gateway.audit.log import LoggedEvent

MAX_CHARS: Final = 2_000
"""What of one text is shown in a page; the whole can be fetched as plain text."""

NOTHING: Final = "\N{EN DASH}"
"""What stands where there is no value."""

ASSETS: Final = {
    "console.css": "text/css",
    "console.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


def shown(value: object, limit: int = MAX_CHARS) -> Markup:
    """`value` as a page shows it: escaped, invisible characters marked, cut at `limit`."""
    if isinstance(value, Markup):
        return value
    if isinstance(value, bool):
        value = "yes" if value else "no"
    text = "" if value is None else str(value)
    cut = len(text) > limit
    if cut:
        length = len(text)
        text = text[:limit]
    if text.isascii() and text.isprintable():
        markup = Markup.escape(text)
    else:
        markup = Markup("").join(_runs(text))
    if cut:
        markup += Markup('<span class="cut">… {:,} characters</span>').format(length)
    return markup


def _runs(text: str) -> list[Markup]:
    runs: list[Markup] = []
    pending: list[str] = []
    marked = False
    for part, is_escape in escaped(text):
        if is_escape != marked and pending:
            runs.append(_run(pending, marked))
            pending = []
        marked = is_escape
        pending.append(part)
    if pending:
        runs.append(_run(pending, marked))
    return runs


def _run(parts: list[str], marked: bool) -> Markup:
    text = Markup.escape("".join(parts))
    return Markup('<span class="esc">{}</span>').format(text) if marked else text


def foreign(value: object, limit: int = MAX_CHARS) -> Markup:
    """A text of somebody else's: its direction does not reach what stands around it."""
    return Markup("<bdi>{}</bdi>").format(shown(value, limit))


def lines(value: object, limit: int = 200_000) -> Markup:
    """A text of several lines; what in them does not show itself is marked all the same."""
    text = "" if value is None else str(value)
    return Markup("\n").join(shown(line, limit) for line in text[:limit].split("\n"))


def plain(value: object, limit: int = 200) -> str:
    """The same for an attribute or a title, where nothing can be marked."""
    text = escape("" if value is None else str(value)[: limit + 1])
    return text if len(text) <= limit else text[:limit] + "…"


def pretty_json(value: object, limit: int = 20_000) -> Markup:
    """A value of a record, one member a line; the escapes of JSON stay what they are."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    lines = text.split("\n")
    return Markup("\n").join(shown(line) for line in _within(lines, limit))


def _within(lines: list[str], limit: int) -> list[str]:
    chosen: list[str] = []
    size = 0
    for line in lines:
        size += min(len(line), MAX_CHARS)
        if size > limit:
            return [*chosen, f"… {len(lines) - len(chosen):,} lines more"]
        chosen.append(line)
    return chosen


def when(time: str) -> Markup:
    """A time of a record: the day only where it is not today."""
    text = time[11:23] if time[:10] == datetime.now(UTC).date().isoformat() else time[:19]
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        plain(time, 40),
        plain(time.rstrip("Z").replace("T", " "), 40),
        shown(text.replace("T", " ")),
    )


def duration(microseconds: int | None) -> str:
    """A duration in the unit that suits it."""
    if microseconds is None:
        return NOTHING
    if microseconds < 1_000:
        return f"{microseconds} µs"
    if microseconds < 1_000_000:
        milliseconds = microseconds / 1_000
        return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"
    return f"{microseconds / 1_000_000:.1f} s"


def size(size_bytes: object) -> str:
    """A size in the unit that suits it; whatever else stands in its place, as it is."""
    if size_bytes is None:
        return NOTHING
    if not isinstance(size_bytes, int):
        return str(size_bytes)
    if size_bytes < 1024:
        return f"{size_bytes} bytes"
    amount = float(size_bytes)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1024 or unit == "GiB":
            return f"{amount:.1f} {unit}"
    raise AssertionError


def number(value: int) -> str:
    """A number with its thousands apart."""
    return f"{value:,}"


def link(path: str, **query: object) -> str:
    """An address of the console's, with the parts of a query that are set."""
    wanted = {key: str(value) for key, value in query.items() if value not in (None, "")}
    return path + ("?" + urlencode(wanted, quote_via=quote) if wanted else "")


def particulars(event: LoggedEvent) -> list[tuple[str, object]]:
    """What an event says beside its name. Somebody may have changed the log: it may be anything."""
    data = event.fields().get("data")
    if isinstance(data, dict):
        return list(data.items())
    return [] if data is None else [("data", data)]


class Templates:
    """The templates of the console below the path `base`."""

    def __init__(self, base: str) -> None:
        self.base = base
        self._environment = jinja2.Environment(
            loader=jinja2.PackageLoader("gateway.console"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=_finalize,
        )
        self._environment.filters |= {
            "foreign": foreign,
            "shown": shown,
            "as_is": as_is,
            "plain": plain,
            "lines": lines,
            "particulars": particulars,
            "pretty_json": pretty_json,
            "when": when,
            "duration": duration,
            "size": size,
            "number": number,
        }
        self._environment.globals |= {
            "base": base,
            "link": lambda path, **query: Markup.escape(self.link(path, **query)),
            "asset": lambda name: f"{base}/static/{asset_version(name)}/{name}",
        }

    def link(self, path: str, **query: object) -> str:
        """The address of a page."""
        return link(self.base + path, **query)

    def render(self, name: str, **values: Any) -> str:
        """A page."""
        return self._environment.get_template(name).render(values)


def as_is(value: object) -> Markup:
    """A text for the value of a field, which has to come back unchanged with the form."""
    return Markup.escape("" if value is None else str(value))


def _finalize(value: object) -> object:
    """Every text that a template prints and did not treat itself; fit for an attribute as well."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return Markup.escape(plain(value, MAX_CHARS))
    return value


@lru_cache(maxsize=8)
def asset(name: str) -> bytes:
    """The bytes of a file that pages refer to."""
    return (files("gateway.console") / "static" / name).read_bytes()


@lru_cache(maxsize=8)
def asset_version(name: str) -> str:
    """Part of its address: another file is at another one, so that it can be kept for ever."""
    return sha256(asset(name)).hexdigest()[:12]
