"""Which agent an HTTP request acts as: what its path names, within what its token allows."""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

from gateway.identity.bearer import Bearer, challenge
from gateway.identity.identity import Identity

# One path segment as RFC 3986 has it, then the endpoint below it.
_OF_AGENT: Final = re.compile(
    r"/agents/((?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+)(/[^/].*)", re.DOTALL
)


class Forbidden(msgspec.Struct, frozen=True):
    """The request may not act as any agent: `status` with `challenge` as WWW-Authenticate."""

    message: str
    challenge: str
    status: int = 403


def split_path(path: str) -> tuple[str | None, str]:
    """The agent that a path names, and the endpoint: /agents/NAME/srv/mcp is NAME and /srv/mcp.

    `path` is the one of the request line, still percent-encoded; NAME is decoded once, the rest
    not. A path of another form, or whose name is not sound UTF-8 without control characters, is
    (None, `path`): no endpoint begins with /agents/NAME/, so such a path leads nowhere.
    """
    parts = _OF_AGENT.fullmatch(path)
    if parts is None:
        return None, path
    try:
        agent = unquote_to_bytes(parts[1]).decode("utf-8")
    except UnicodeDecodeError:
        return None, path
    # Dot segments: whoever stands between may have understood another path.
    if not agent.isprintable() or agent in (".", ".."):
        return None, path
    return agent, parts[2]


def who(
    path_agent: str | None, bearer: Bearer | None, *, anonymous: Identity | None
) -> Identity | Forbidden:
    """The agent of a request, whose path names `path_agent`.

    `bearer` None means that the request had no credentials at all: with rejected ones it is never
    to get here. Then `anonymous`, where the service takes such requests from this peer, says who
    calls where the path does not.
    """
    if bearer is not None:
        return _of_bearer(path_agent, bearer)
    if anonymous is None:
        return _forbidden("A bearer token is required")
    if path_agent is None:
        return anonymous
    if path_agent.startswith("@"):
        # The gateway's own names for callers without an agent file: the host's hook alone says so.
        return _forbidden("The path names no agent of an agent file")
    return Identity(path_agent, "url")


def _of_bearer(path_agent: str | None, bearer: Bearer) -> Identity | Forbidden:
    if path_agent is not None:
        if path_agent in bearer.agents:
            return Identity(path_agent, "token")
        return _forbidden("The token is not for the agent that the path names")
    if len(bearer.agents) == 1:
        return Identity(bearer.agents[0], "token")
    return _forbidden(
        "The token is for several agents: say which one by /agents/NAME in front of the path"
    )


def _forbidden(message: str) -> Forbidden:
    return Forbidden(message, challenge("insufficient_scope", message))
