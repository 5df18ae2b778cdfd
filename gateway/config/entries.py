"""Reads the entries of upstreams, from gateway.yaml and from the `.mcp.json` files of clients."""

import re
from collections.abc import Iterator, Mapping

import msgspec

from gateway.agents import Finding
from gateway.catalog.names import normalise
from gateway.config import model
from gateway.config.launch import is_header_value, url_problem
from gateway.config.plain_secrets import plain_secrets
from gateway.config.references import Where, kinds, resolve
from gateway.config.self_start import starts_gateway
from gateway.config.settings import HttpEntry, SseEntry, StdioEntry, UpstreamEntry
from gateway.documents import Document
from gateway.errors import UserError

_OWN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_CLIENTS_NAME = re.compile(r"[A-Za-z0-9_. -]{1,64}")

# The gateway writes these itself; a second one would contradict it.
_RESERVED_HEADERS = re.compile(
    "accept|connection|content-length|content-type|host|last-event-id|mcp-protocol-version"
    "|mcp-session-id|te|trailer|transfer-encoding|upgrade"
)


class Entries:
    """The upstreams found so far; mistakes go to `problems`, warnings to `findings`.

    `names` has every upstream that somebody configured, those with mistakes included.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.upstreams: dict[str, UpstreamEntry] = {}
        self.names: dict[str, str] = {}  # name -> where it stands, as path:line
        self.problems: list[UserError] = []
        self.findings: list[Finding] = []

    def read(self, document: Document, section: str, *, own: bool) -> None:
        """Read the entries under the key `section`.

        `own`: the file is gateway.yaml. A client's file may have keys that only the client knows,
        and may refer to environment variables only, because a client would take the rest literally.
        """
        value = document.value
        entries = value.get(section) if isinstance(value, dict) else None
        if not isinstance(entries, dict):
            self.problem(
                document,
                (section,),
                f"{section} must be a mapping of upstream names to their entries."
                if isinstance(value, dict) and section in value
                else f"The file has no key '{section}' with upstreams under it.",
            )
            return
        for name, entry in entries.items():
            where = (section, name)
            if self._take_name(document, where, name, own=own):
                before = len(self.problems)
                upstream = self._entry(document, where, name, entry, own=own)
                if upstream is not None and len(self.problems) == before:
                    self.upstreams[name] = upstream
                    self._warn_of_secrets(document, where, upstream)

    def problem(self, document: Document, where: tuple[model.Key, ...], sentence: str) -> None:
        """Note a mistake at a place of a file."""
        self.problems.append(UserError(sentence, path=document.path, line=document.line(*where)))

    def _take_name(
        self, document: Document, where: tuple[model.Key, ...], name: str, *, own: bool
    ) -> bool:
        pattern = _OWN_NAME if own else _CLIENTS_NAME
        if not pattern.fullmatch(name) or not name.strip(". "):
            self.problem(
                document,
                where,
                f"{name!a} cannot be the name of an upstream; use up to 64 of the characters "
                "A-Z a-z 0-9 _ . - only.",
            )
            return False
        for other, place in self.names.items():
            if normalise(other) == normalise(name):
                sentence = (
                    f"The upstream {name!a} is configured twice, the other time at {place}; "
                    "keep one."
                    if other == name
                    else f"The upstreams {name!a} and {other!a} ({place}) have one name for the "
                    f"client, {normalise(name)!a}; rename one."
                )
                self.problem(document, where, sentence)
                return False
        self.names[name] = f"{document.path}:{document.line(*where)}"
        return True

    def _entry(
        self,
        document: Document,
        where: tuple[model.Key, ...],
        name: str,
        value: object,
        *,
        own: bool,
    ) -> UpstreamEntry | None:
        part = self._kind(document, where, value)
        if part is None:
            return None
        if not own and isinstance(value, dict):
            value = self._known_only(document, where, part, value)
        entry = model.check(part, value, document, where, self.problems)
        if entry is None:
            return None
        self._check_references(document, where, entry, own=own)
        if isinstance(entry, model.HttpUpstream):
            self._check_http(document, where, entry)
        elif starts_gateway([entry.command, *entry.args]):
            self.problem(
                document,
                (*where, "command"),
                f"{model.dotted(where)} starts the gateway itself, which would never end; write "
                "the command of the server behind it.",
            )
        fields = entry.model_dump(exclude={"type"})
        fields |= {"name": name, "path": document.path, "line": document.line(*where)}
        if isinstance(entry, model.HttpUpstream):
            return msgspec.convert(fields, SseEntry if entry.type == "sse" else HttpEntry)
        return msgspec.convert(fields, StdioEntry)

    def _kind(
        self, document: Document, where: tuple[model.Key, ...], value: object
    ) -> "type[model.StdioUpstream] | type[model.HttpUpstream] | None":
        name = model.dotted(where)
        if not isinstance(value, dict):
            self.problem(document, where, f"{name} must be a mapping of keys to values.")
        elif value.get("type", "stdio") not in ("stdio", "http", "streamable-http", "sse"):
            sentence = f"{name}.type must be 'stdio', 'http' or 'sse'."
            self.problem(document, (*where, "type"), sentence)
        elif "command" in value and "url" in value:
            self.problem(
                document, where, f"{name} has both command and url; keep the one that is meant."
            )
        elif "url" in value and value.get("type") == "stdio":
            self.problem(document, where, f"{name} has a url; write type: http.")
        elif "url" in value or value.get("type", "stdio") != "stdio":
            return model.HttpUpstream
        elif "command" in value:
            return model.StdioUpstream
        else:
            self.problem(
                document, where, f"{name} needs a command (a process) or a url (an HTTP server)."
            )
        return None

    def _known_only(
        self,
        document: Document,
        where: tuple[model.Key, ...],
        part: type[model.Upstream],
        value: Mapping[str, object],
    ) -> dict[str, object]:
        known = part.model_fields
        for key in value:
            if key not in known:
                self.findings.append(
                    Finding(
                        code="ignored-key",
                        severity="warning",
                        message=f"{model.dotted((*where, key))} is a key of the client's that the "
                        "gateway does not act on; configure the upstream in gateway.yaml if it "
                        "matters",
                        path=document.path,
                        line=document.line(*where, key),
                    )
                )
        return {key: inner for key, inner in value.items() if key in known}

    def _check_references(
        self,
        document: Document,
        where: tuple[model.Key, ...],
        entry: model.StdioUpstream | model.HttpUpstream,
        *,
        own: bool,
    ) -> None:
        for key, text in _texts(entry):
            place = (*where, *key)
            spot = Where(document.path, document.line(*place), model.dotted(place), self.root)
            try:
                used = kinds(text, where=spot)
            except UserError as error:
                self.problems.append(error)
                continue
            if not own and used - {"variable"}:
                self.problem(
                    document,
                    place,
                    f"{spot.what} uses a {min(used - {'variable'})} reference, which only "
                    "gateway.yaml may; configure the upstream there.",
                )

    def _check_http(
        self, document: Document, where: tuple[model.Key, ...], entry: model.HttpUpstream
    ) -> None:
        literal = self._literal(entry.url)
        problem = None if literal is None else url_problem(literal)
        if problem is not None:
            self.problem(document, (*where, "url"), f"{model.dotted((*where, 'url'))} {problem}")
        seen: set[str] = set()
        for name, value in entry.headers.items():
            place = (*where, "headers", name)
            literal = self._literal(value)
            if _RESERVED_HEADERS.fullmatch(name.lower()):
                sentence = "is a header that the gateway sets itself; remove it."
            elif name.lower() in seen:
                sentence = "is given twice in different spellings; keep one."
            elif literal is not None and not is_header_value(literal):
                sentence = "is a text that no HTTP header may carry; keep it to one line of ASCII."
            else:
                seen.add(name.lower())
                continue
            self.problem(document, place, f"{model.dotted(place)} {sentence}")

    def _literal(self, text: str) -> str | None:
        """What `text` means where that is known without the environment."""
        nowhere = Where("", 0, "")
        try:
            return None if kinds(text, where=nowhere) else resolve(text, {}, where=nowhere)
        except UserError:
            return None

    def _warn_of_secrets(
        self, document: Document, where: tuple[model.Key, ...], entry: UpstreamEntry
    ) -> None:
        for key in plain_secrets(entry):
            self.findings.append(
                Finding(
                    code="plain-secret",
                    severity="warning",
                    message=f"{model.dotted((*where, *key))} seems to hold a secret in plain text; "
                    "write a reference such as ${NAME} (as long as it stands there, nothing of "
                    "this configuration is cached, and every start takes longer)",
                    path=document.path,
                    line=document.line(*where, *key),
                )
            )


def _texts(
    entry: model.StdioUpstream | model.HttpUpstream,
) -> Iterator[tuple[tuple[model.Key, ...], str]]:
    """Every text of an entry that may hold references, with the keys that lead to it."""
    if isinstance(entry, model.HttpUpstream):
        yield ("url",), entry.url
        for name, value in entry.headers.items():
            yield ("headers", name), value
        return
    yield ("command",), entry.command
    for index, argument in enumerate(entry.args):
        yield ("args", index), argument
    for name, value in entry.env.items():
        yield ("env", name), value
    if entry.cwd is not None:
        yield ("cwd",), entry.cwd
