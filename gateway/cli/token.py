"""`gateway token`: the tokens that clients of `gateway serve` identify themselves with."""

import hashlib
import os
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from gateway.cli.output import complain, escape, print_json_line, print_line, print_table
from gateway.config.load import Loaded, load
from gateway.config.settings import Settings
from gateway.errors import UserError
from gateway.identity.tokens import (
    END_OF_TIME_S,
    Token,
    create_token,
    id_of,
    list_tokens,
    revoke_token,
)
from gateway.relay.scraping import READER
from gateway.state import state_directory

EXIT_FINDINGS: Final = 1
_MAX_LABEL_CHARS: Final = 200
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def tokens_path(settings: Settings) -> Path:
    """The directory with the tokens of a configuration.

    It is the one that `http.tokens` names, else one of the user's own that belongs to the path of
    the configuration: a configuration that is moved starts without tokens.
    """
    if settings.http.tokens is not None:
        return Path(settings.root, Path(settings.http.tokens).expanduser())
    config = Path(settings.root, settings.path)
    name = hashlib.sha256(os.fsencode(config)).hexdigest()
    return state_directory(os.environ) / "tokens" / name


def _lifetime(_ctx: click.Context, _parameter: click.Parameter, text: str) -> int | None:
    """For how many seconds a token is valid; None for `never`."""
    if text == "never":
        return None
    age = re.fullmatch(r"([0-9]{1,9})([smhdw])", text)
    lifetime_s = int(age[1]) * _UNITS_S[age[2]] if age else 0
    if lifetime_s == 0:
        raise click.BadParameter(
            f"'{escape(text)}' is neither an age, such as 12h, 90d or 4w, nor `never`"
        )
    if time.time() + lifetime_s >= END_OF_TIME_S:
        raise click.BadParameter(f"'{escape(text)}' is too long; give a shorter age, or `never`")
    return lifetime_s


_config: Final = click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration. Default: gateway.yaml here or above, else .mcp.json.",
)
_trusted: Final = click.option(
    "--trusted",
    is_flag=True,
    help="Take the configuration as it is, for a service that runs with `gateway serve --trusted`.",
)
_as_json: Final = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


@click.group(name="token")
def command() -> None:
    """Create, list and revoke the tokens of the HTTP service.

    A token lets its bearer act as the agents that it is for, at the service of one configuration.
    """


@command.command(short_help="Make a token for agents, and print it once.")
@click.argument("agents", metavar="AGENT...", nargs=-1, required=True)
@click.option(
    "--expires",
    "lifetime_s",
    callback=_lifetime,
    metavar="AGE",
    default="90d",
    show_default=True,
    help="For how long it is valid: 12h, 90d, 4w, or `never`.",
)
@click.option("--label", default="", help="What it is for, to recognise it by.")
@_config
@_trusted
@_as_json
def create(
    agents: tuple[str, ...],
    lifetime_s: int | None,
    label: str,
    config: Path | None,
    trusted: bool,
    as_json: bool,
) -> None:
    """Make one token whose bearer may act as each AGENT, and print it: only its hash is kept.

    With one AGENT, clients use /UPSTREAM/mcp and /mcp. With several, they say which one by
    /agents/NAME/UPSTREAM/mcp and /agents/NAME/mcp. A token for @metrics alone reads /metrics, and
    is no agent's.
    """
    if len(label) > _MAX_LABEL_CHARS:
        raise UserError(f"the label is longer than {_MAX_LABEL_CHARS} characters; shorten it")
    loaded, directory = _load(config, trusted=trusted)
    if agents != (READER,):
        _require_defined(loaded, agents)
    now_s = int(time.time())
    token, text = create_token(
        directory,
        agents,
        label=label,
        now_s=now_s,
        expires_s=None if lifetime_s is None else now_s + lifetime_s,
    )
    if as_json:
        print_json_line({"id": token.id, "token": text, **_described(token)})
    else:
        click.echo(text)
    _say(_summary(token))
    if token.expires_s is None:
        _say(
            "Warning: this token never expires; revoke it when it is no longer needed: "
            f"gateway token revoke {token.id}"
        )


@command.command(name="list", short_help="List the tokens, without what is secret.")
@_config
@_trusted
@_as_json
def list_(config: Path | None, trusted: bool, as_json: bool) -> int:
    """List the tokens, the newest last; the tokens themselves are not kept."""
    _, directory = _load(config, trusted=trusted)
    tokens, problems = list_tokens(directory)
    now_s = time.time()
    states = ["expired" if token.expired(now_s) else "active" for token in tokens]
    if as_json:
        for token, state in zip(tokens, states, strict=True):
            print_json_line({"id": token.id, **_described(token), "state": state})
    elif tokens:
        print_table(
            ("ID", "AGENTS", "LABEL", "CREATED", "EXPIRES", "STATE"),
            [
                (
                    token.id,
                    ", ".join(token.agents),
                    token.label,
                    _moment(token.created_s),
                    _moment(token.expires_s) if token.expires_s is not None else "never",
                    state,
                )
                for token, state in zip(tokens, states, strict=True)
            ],
        )
    for problem in problems:
        complain(problem)
    return EXIT_FINDINGS if problems else 0


@command.command(short_help="Revoke tokens by their ids.")
@click.argument("tokens", metavar="ID...", nargs=-1, required=True)
@_config
@_trusted
def revoke(tokens: tuple[str, ...], config: Path | None, trusted: bool) -> None:
    """Revoke the tokens with these IDs; a running service refuses them within a second.

    In place of an ID, the whole token will do. The exit code is 2 if there is no token with one
    of the IDs; the others are revoked nevertheless.
    """
    # What is not an id is not repeated: it may be a token with a slip.
    ids = [id_of(text) for text in tokens]
    _, directory = _load(config, trusted=trusted)
    missing = []
    for position, identifier in enumerate(ids, start=1):
        if identifier is None:
            missing.append(f"argument {position} is not an id")
        elif revoke_token(directory, identifier):
            print_line(f"Revoked {identifier}.")
        else:
            missing.append(f"there is no token {identifier}")
    if missing:
        raise UserError(f"{'; '.join(missing)}; `gateway token list` shows the ids")


def _load(config: Path | None, *, trusted: bool) -> tuple[Loaded, Path]:
    """The configuration as the service has it, and where its tokens are."""
    loaded = load(config, cwd=Path.cwd(), trusted=trusted)
    directory = tokens_path(loaded.settings)
    # A service that takes the files as they are would look elsewhere.
    if loaded.held:
        written = tokens_path(load(config, cwd=Path.cwd(), trusted=True).settings)
        if written != directory:
            _say(
                "Warning: http.tokens is not in force until it is accepted with `gateway trust`; "
                "for a service that runs with --trusted, give --trusted here too"
            )
    return loaded, directory


def _require_defined(loaded: Loaded, agents: Sequence[str]) -> None:
    """Only what an agent file defines can be had by a token."""
    defined = [agent.name for agent in loaded.definitions if agent.name]
    for name in agents:
        if name not in defined:
            known = ", ".join(defined) or "none"
            raise UserError(
                f"no agent file that is read defines the agent {name!r}; there are: {known}",
                path=loaded.settings.path or None,
            )
        permissions = loaded.snapshot.agents.get(name)
        if permissions is None or permissions.refusal is not None:
            _say(f"Warning: the agent {name!r} may use nothing as it is; see `gateway check`")


def _described(token: Token) -> dict[str, object]:
    return {
        "agents": token.agents,
        "label": token.label,
        "created": _moment(token.created_s),
        "expires": _moment(token.expires_s) if token.expires_s is not None else None,
    }


def _summary(token: Token) -> str:
    until = f"until {_moment(token.expires_s)}" if token.expires_s is not None else "for ever"
    several = "" if len(token.agents) == 1 else ", at /agents/NAME/mcp and below"
    return (
        f"Token {token.id} is for {', '.join(token.agents)}{several}, {until}. Keep it now: it is "
        "not shown again. Clients send it in the header `Authorization: Bearer TOKEN`."
    )


def _moment(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="seconds")[:-6] + "Z"


def _say(text: str) -> None:
    click.echo(escape(text), err=True)
