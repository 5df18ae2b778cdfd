"""Turns a client's entry of a server into an upstream of gateway.yaml, or says why it cannot.

What an entry means to its client, it has to mean to the gateway: a reference that the gateway does
not have, or a login that only the client can make, leaves the entry where it is.
"""

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from gateway.config.launch import url_problem
from gateway.config.self_start import starts_gateway
from gateway.install.clients import Servers

Entry = dict[str, object]

MOVED = ("command", "args", "env", "cwd", "url", "headers")
"""The members of a client's entry that go to gateway.yaml; all others are the client's business."""

WHERE_THE_SESSION_IS = "${PWD:-.}"
"""`cwd` of an upstream that its client starts in whatever project the session is in."""


class Carried(msgspec.Struct, frozen=True):
    """An entry as gateway.yaml has it, and what a person should know about it."""

    entry: Entry
    note: str = ""


class LeftAlone(msgspec.Struct, frozen=True):
    """Why an entry stays as it is. `wired`: because it starts the gateway already."""

    reason: str
    wired: bool = False


def carry(value: object, place: Servers, *, root: Path, home: Path) -> Carried | LeftAlone:
    """What becomes of the entry `value` of a client's file."""
    if not isinstance(value, dict):
        return LeftAlone("its entry is no object")
    reason = _reason_to_leave(value)
    if reason is not None:
        return reason
    try:
        texts = _Texts(place, root, home)
        return texts.http(value) if "url" in value else texts.stdio(value)
    except _UnclearError as error:
        return LeftAlone(str(error))


class _UnclearError(Exception):
    """The reason why an entry cannot be carried."""


def _reason_to_leave(value: Mapping[str, object]) -> LeftAlone | None:
    command, args = value.get("command"), value.get("args", [])
    if isinstance(command, str) and isinstance(args, list):
        argv = [command, *(each for each in args if isinstance(each, str))]
        if starts_gateway(argv):
            return LeftAlone("it starts the gateway already", wired=True)
    if value.get("disabled") is True or value.get("enabled") is False:
        return LeftAlone("it is disabled; enable it and run init again")
    kind = value.get("type", "stdio" if "command" in value else "http")
    if kind not in ("stdio", "http", "streamable-http", "streamableHttp", "sse"):
        return LeftAlone(f"the gateway has no transport of the type {ascii(kind)[:40]}")
    if "command" in value and "url" in value:
        return LeftAlone("it has both a command and a url; keep the one that is meant")
    if "command" not in value and "url" not in value:
        return LeftAlone("it has neither a command nor a url")
    if "url" in value and kind == "stdio":
        return LeftAlone("it has a url and the type stdio; write the type that is meant")
    for member, why in _NOT_CARRIED.items():
        if value.get(member):
            return LeftAlone(why)
    return None


_NOT_CARRIED = {
    "oauth": "it logs in by OAuth, which the gateway cannot do yet",
    "auth": "it logs in by OAuth, which the gateway cannot do yet",
    "authProviderType": "it logs in by OAuth, which the gateway cannot do yet",
    "headersHelper": "a command of the client's makes its headers; use ${exec:COMMAND} in "
    "gateway.yaml instead",
    "envFile": "it takes its environment from a file, which the gateway does not read; write env",
    "sandbox": "the client runs it in a sandbox of its own",
}

# Services that take nothing but an OAuth login where no Authorization header is configured.
_OAUTH_ONLY = frozenset(
    (
        "mcp.asana.com",
        "mcp.atlassian.com",
        "mcp.box.com",
        "mcp.canva.com",
        "mcp.figma.com",
        "mcp.intercom.com",
        "mcp.linear.app",
        "mcp.monday.com",
        "mcp.notion.com",
        "mcp.paypal.com",
        "mcp.sentry.dev",
        "mcp.squareup.com",
        "mcp.stripe.com",
        "mcp.supabase.com",
        "mcp.vercel.com",
        "mcp.webflow.com",
    )
)


class _Texts:
    """Reads the members of an entry, with their texts in the gateway's own way of writing."""

    def __init__(self, place: Servers, root: Path, home: Path) -> None:
        self.place = place
        self.variables = {
            "workspaceFolder": str(root),
            "workspaceRoot": str(root),
            "workspaceFolderBasename": root.name,
            "userHome": str(home),
            "pathSeparator": os.sep,
            "/": os.sep,
        }

    def stdio(self, value: Mapping[str, object]) -> Carried:
        entry: Entry = {"command": self.text(value, "command")}
        if not entry["command"]:
            raise _UnclearError("its command is empty")
        args = value.get("args", [])
        if not isinstance(args, list):
            raise _UnclearError("its args are no list")
        if args:
            entry["args"] = [self.converted(each, "args") for each in args]
        env = self.texts(value, "env")
        if env:
            entry["env"] = env
        if value.get("cwd") is not None:
            entry["cwd"] = self.text(value, "cwd")
        elif self.place.shared and self.place.follows_session:
            entry["cwd"] = WHERE_THE_SESSION_IS
        return Carried(entry)

    def http(self, value: Mapping[str, object]) -> Carried:
        url = self.text(value, "url")
        kind = str(value.get("type", ""))
        if kind not in ("http", "sse"):
            # Clients that are not told try streamable HTTP first; the old transport has this path.
            kind = "sse" if not kind and urlsplit(url).path.rstrip("/").endswith("/sse") else "http"
        entry: Entry = {"type": kind, "url": url}
        headers = self.texts(value, "headers")
        if headers:
            entry["headers"] = headers
        if "${" in url:
            return Carried(entry)
        problem = url_problem(url)
        if problem is not None:
            raise _UnclearError(f"its url {problem}")
        host = urlsplit(url).hostname or ""
        if headers or _is_loopback(host):
            return Carried(entry)
        if host in _OAUTH_ONLY:
            raise _UnclearError(f"{host} logs in by OAuth, which the gateway cannot do yet")
        return Carried(
            entry,
            "the gateway cannot log in by OAuth; if the server asks for that, give it a header or "
            "take its entry back",
        )

    def texts(self, value: Mapping[str, object], member: str) -> dict[str, str]:
        inner = value.get(member)
        if inner is None:
            return {}
        if not isinstance(inner, dict):
            raise _UnclearError(f"its {member} is no object")
        return {name: self.converted(each, member) for name, each in inner.items()}

    def text(self, value: Mapping[str, object], member: str) -> str:
        return self.converted(value[member], member)

    def converted(self, text: object, member: str) -> str:
        if not isinstance(text, str):
            raise _UnclearError(f"its {member} holds something that is no text")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _UnclearError(f"its {member} holds half a character") from None
        if "\0" in text:
            raise _UnclearError(f"its {member} holds a NUL character")
        if self.place.dialect == "literal":
            return text.replace("${", "$${")
        if self.place.dialect == "claude":
            if "$${" in text or any(not _VARIABLE.fullmatch(each) for each in _inner(text)):
                raise _UnclearError(
                    f"its {member} holds a ${{...}} that the gateway reads differently"
                )
            return text
        if "$${" in text:
            raise _UnclearError(f"its {member} holds a ${{...}} that the gateway reads differently")
        pieces = []
        end = 0
        for found in _BRACED.finditer(text):
            pieces += [text[end : found.start()], self.reference(found[1], member)]
            end = found.end()
        return "".join([*pieces, text[end:].replace("${", "$${")])

    def reference(self, inside: str, member: str) -> str:
        """What an editor's `${inside}` is for the gateway."""
        if inside in self.variables:
            return self.variables[inside].replace("${", "$${")
        kind, _, name = inside.partition(":")
        if kind == "env" and _NAME.fullmatch(name):
            return f"${{{name}:-}}"  # an editor takes an unset variable for nothing
        if kind == "input":
            raise _UnclearError(
                f"its {member} asks a person for ${{{inside[:40]}}}; write ${{env:NAME}} or a "
                "reference of gateway.yaml instead"
            )
        raise _UnclearError(f"its {member} uses ${{{inside[:40]}}}, which only the editor knows")


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?")
_BRACED = re.compile(r"\$\{([^}]*)\}")


def _inner(text: str) -> list[str]:
    """What stands in each `${...}`; one that is not closed counts as one with nothing in it."""
    closed = _BRACED.findall(text)
    return [*closed, *[""] * (text.count("${") - len(closed))]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
