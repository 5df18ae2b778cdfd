"""What an upstream is started or reached with: its entry with every reference resolved.

Done when the upstream is first used, in a thread: a reference may wait for a command.
"""

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from gateway.config.references import Where, resolve
from gateway.config.self_start import starts_gateway
from gateway.config.settings import HttpEntry, StdioEntry, UpstreamEntry


class Launch(msgspec.Struct, frozen=True):
    """What a stdio upstream is started with. Holds secrets: never show or keep it."""

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str

    def __repr__(self) -> str:
        return "Launch(...)"


class Endpoint(msgspec.Struct, frozen=True):
    """What an HTTP upstream is reached with. Holds secrets: never show or keep it."""

    url: str
    headers: dict[str, str]

    def __repr__(self) -> str:
        return "Endpoint(...)"


def launch(entry: StdioEntry, environ: Mapping[str, str], *, root: str) -> Launch:
    """Resolve a stdio entry; raises UserError. `root` is Settings.root."""
    where = _places(entry, root)
    argv = (
        resolve(entry.command, environ, where=where("command")),
        *(
            resolve(argument, environ, where=where(f"argument {number}"))
            for number, argument in enumerate(entry.args, 1)
        ),
    )
    if not argv[0]:
        raise where("command").error("resolves to nothing; name the program to start.")
    if starts_gateway(argv):
        raise where("command").error("starts the gateway itself; name the server's own command.")
    cwd = resolve(entry.cwd or ".", environ, where=where("cwd"))
    return Launch(
        argv,
        child_environment(entry, environ, root=root),
        str(Path(root, Path(cwd).expanduser())),
    )


def endpoint(entry: HttpEntry, environ: Mapping[str, str], *, root: str) -> Endpoint:
    """Resolve an HTTP entry; raises UserError. `root` is Settings.root."""
    where = _places(entry, root)
    url = resolve(entry.url, environ, where=where("url"))
    problem = url_problem(url)
    if problem is not None:
        raise where("url").error(problem)
    headers = {
        name: resolve(value, environ, where=where(f"header {name}"))
        for name, value in entry.headers.items()
    }
    for name, value in headers.items():
        if not is_header_value(value):
            raise where(f"header {name}").error(
                "resolves to a text that no HTTP header may carry; keep it to one line of ASCII."
            )
    return Endpoint(url, headers)


def child_environment(
    entry: StdioEntry, environ: Mapping[str, str], *, root: str = "."
) -> dict[str, str]:
    """The environment of an upstream's process: the harmless variables, `inherit_env`, `env`.

    Raises UserError where a reference in `env` has no value.
    """
    inherited = {
        name: value
        for name, value in environ.items()
        if (_is_harmless(name) or name in entry.inherit_env)
        # An exported shell function: the child's shell would run it.
        and not value.startswith("()")
    }
    where = _places(entry, root)
    return inherited | {
        name: resolve(value, environ, where=where(f"env {name}"))
        for name, value in entry.env.items()
    }


def url_problem(url: str) -> str | None:
    """Why no upstream can be reached at `url`, or None. It is not quoted: it may hold a secret."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "is not a valid URL; write http://HOST:PORT/PATH or https://HOST/PATH."
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "is not a valid URL; only http://HOST and https://HOST are supported."
    if "@" in parts.netloc:
        return "carries a user name or password; put it into a header with a ${VAR} reference."
    if not url.isascii() or any(character <= " " or character == "\x7f" for character in url):
        return "holds a space, a control or a non-ASCII character; percent-encode it."
    return None


def is_header_value(value: str) -> bool:
    """Whether `value` can be sent as the value of an HTTP header."""
    return value == value.strip() and re.fullmatch(r"[\t\x20-\x7e]*", value) is not None


# Variables that programs need to find their way; everything else may be somebody's secret.
_HARMLESS = re.compile(
    "HOME|LOGNAME|PATH|SHELL|TERM|USER|TMPDIR|TZ|LANG|LC_.*|XDG_.*"
    "|SSL_CERT_FILE|SSL_CERT_DIR|NODE_EXTRA_CA_CERTS"
    "|HTTP_PROXY|HTTPS_PROXY|ALL_PROXY|NO_PROXY|http_proxy|https_proxy|all_proxy|no_proxy"
)
_HARMLESS_ON_WINDOWS = re.compile(
    "APPDATA|HOMEDRIVE|HOMEPATH|LOCALAPPDATA|PATHEXT|PROCESSOR_ARCHITECTURE|SYSTEMDRIVE|SYSTEMROOT"
    "|TEMP|USERNAME|USERPROFILE"
)


def _is_harmless(name: str) -> bool:
    if sys.platform == "win32" and _HARMLESS_ON_WINDOWS.fullmatch(name):
        return True
    return _HARMLESS.fullmatch(name) is not None


def _places(entry: UpstreamEntry, root: str) -> Callable[[str], Where]:
    return lambda what: Where(entry.path, entry.line, f"Upstream {entry.name}, {what}", root)
