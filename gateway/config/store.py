"""The address of the shared audit store: what may stand in the configuration, and what it means."""

import re
from collections.abc import Mapping
from typing import Final

from gateway.audit.postgres.address import SCHEMES, Address
from gateway.config.references import Where, kinds, resolve
from gateway.config.settings import Settings
from gateway.errors import UserError

_REFERENCE: Final = re.compile(r"\$\{[^}]*\}")
_USER: Final = re.compile(r"[a-z]+://[^/?#]*?:([^/?#]*)@")
_PARAMETER: Final = re.compile(r"[?&](?:ssl)?password=([^&#]*)")
_STANDING_IN: Final = "\0"  # for a reference: no text of a configuration holds it


def store_problem(text: str) -> str | None:
    """Why `text` cannot be the address of a store, or None. Not quoted: it may be a secret."""
    where = Where("", 0, "")
    try:
        kinds(text, where=where)
    except UserError as error:
        return error.message.partition(": ")[2]
    shown = _REFERENCE.sub(_STANDING_IN, text)
    if not shown.startswith((*SCHEMES, _STANDING_IN)):
        return "must be a URL of PostgreSQL, postgresql://..., or a reference such as ${VAR}."
    for pattern in (_USER, _PARAMETER):
        found = pattern.search(shown)
        if found is not None and found[1].replace(_STANDING_IN, ""):
            return (
                "holds a password in plain text; put the URL into a variable or a file and write "
                "${VAR} or ${file:PATH}."
            )
    return None


def store_address(settings: Settings, environ: Mapping[str, str]) -> Address:
    """The address of the configured store.

    May wait for a command. Raises UserError where there is none, or a reference has no value.
    """
    text = settings.audit.store
    if text is None:
        raise UserError(
            "no audit.store is configured; set it, or give --store '${VAR}'",
            path=settings.path or None,
        )
    return Address(resolve(text, environ, where=_where(settings, "store")))


def reading_address(settings: Settings, environ: Mapping[str, str]) -> Address:
    """The address with which readers ask the configured store; errors as `store_address`."""
    text = settings.audit.read_from
    if text is None:
        raise UserError("no audit.read_from is configured", path=settings.path or None)
    return Address(resolve(text, environ, where=_where(settings, "read_from")))


def require_store(settings: Settings, environ: Mapping[str, str]) -> None:
    """Find a missing variable or file at the start, where it is one clear sentence.

    Not what would take long: a command, or the desktop's keyring.
    """
    text = settings.audit.store
    if text is not None and kinds(text, where=_where(settings, "store")) <= {"variable", "file"}:
        store_address(settings, environ)


def address_named(text: str, environ: Mapping[str, str]) -> Address:
    """The address that a command line names, by a reference; raises UserError."""
    problem = store_problem(text)
    if problem is not None:
        raise UserError(f"--store {problem}")
    try:
        return Address(resolve(text, environ, where=Where("", 0, "--store")))
    except UserError as error:
        raise UserError(error.message) from None


def _where(settings: Settings, key: str) -> Where:
    return Where(settings.path, settings.lines.get("audit", 1), f"audit.{key}", settings.root)
