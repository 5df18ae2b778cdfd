"""The settings that make the audit log evidence: its signing key, anchors, segments, retention."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from gateway.config.references import Where, kinds, resolve
from gateway.config.settings import AnchorSettings, Settings
from gateway.documents import Document
from gateway.errors import UserError

if TYPE_CHECKING:
    from gateway.audit.anchors import Anchor
    from gateway.audit.checkpoints import Checkpoints
    from gateway.audit.notes import Signer
    from gateway.config.model import Age, Audit, Key

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_SIGNING_KEY: Final = ("audit", "signing_key")

Problem = Callable[["tuple[Key, ...]", str], None]


def evidence_settings(
    audit: "Audit", document: Document, absolute: Callable[[str], str], problem: Problem
) -> dict[str, object]:
    """The fields of AuditSettings that are not as they are written; tells `problem` of mistakes."""
    key = audit.signing_key
    if key is not None:
        try:
            place = Where(document.path, document.line(*_SIGNING_KEY), "audit.signing_key")
            if not kinds(key, where=place):
                problem(
                    _SIGNING_KEY,
                    "audit.signing_key must refer to the key, as ${file:PATH} does, and not be it.",
                )
        except UserError as error:
            problem(_SIGNING_KEY, error.message)
    anchors = []
    for index, anchor in enumerate(audit.anchor):
        where: tuple[Key, ...] = ("audit", "anchor", index)
        named = [each for each in ("file", "webhook", "command") if getattr(anchor, each)]
        if len(named) != 1:
            problem(where, f"audit.anchor[{index}] needs one of file, webhook and command.")
        if anchor.headers and named != ["webhook"]:
            problem(where, f"audit.anchor[{index}] has headers without a webhook.")
        file = None if anchor.file is None else absolute(anchor.file)
        anchors.append(anchor.model_dump() | {"line": document.line(*where), "file": file})
    return {
        "anchor": anchors,
        "segments": {
            "max_bytes": audit.segments.max_bytes,
            "max_age_s": _seconds(audit.segments.max_age),
        },
        "retention": {
            "max_bytes": audit.retention.max_bytes,
            "max_age_s": None
            if audit.retention.max_age is None
            else _seconds(audit.retention.max_age),
        },
    }


def checkpoints_of(settings: Settings, directory: Path) -> "Checkpoints | None":
    """What signs the journals of this configuration in the audit directory `directory`.

    None where no key is configured and nobody has made one. Raises UserError for a key or an
    anchor that cannot be used. May wait for a command that a reference names.
    """
    signer = signer_of(settings, directory)
    if signer is None:
        if settings.audit.anchor:
            raise UserError(
                "audit.anchor keeps nothing as long as nothing is signed; make a key with "
                "`gateway audit keys create`, or set audit.signing_key",
                path=settings.path,
                line=settings.audit.anchor[0].line,
            )
        return None
    from gateway.audit.checkpoints import Checkpoints

    return Checkpoints(
        directory,
        [signer],
        anchors=[_anchor(each, settings) for each in settings.audit.anchor],
        every_records=settings.audit.checkpoints.records,
        every_s=settings.audit.checkpoints.seconds,
    )


def signer_of(settings: Settings, directory: Path) -> "Signer | None":
    """The key that signs here; None where there is none. Raises UserError."""
    text = settings.audit.signing_key
    if text is None:
        # Looked for before anything is imported for it: most logs have none.
        if not (directory / "keys" / "signing.key").exists():
            return None
        from gateway.audit.signing_keys import own_signer

        return own_signer(directory)
    from gateway.audit.signing_keys import parse_signer

    where = Where(settings.path, settings.lines.get("audit", 0), "audit.signing_key", settings.root)
    return parse_signer(resolve(text, os.environ, where=where), settings.path, where.line)


def _anchor(anchor: AnchorSettings, settings: Settings) -> "Anchor":
    from gateway.audit.anchors import CommandAnchor, FileAnchor, WebhookAnchor

    where = Where(settings.path, anchor.line, "audit.anchor", settings.root)
    if anchor.file is not None:
        return FileAnchor(Path(anchor.file))
    if anchor.command is not None:
        # As it is written: what a reference resolves to must not stand in the list of processes.
        return CommandAnchor(anchor.command, Path(settings.root), dict(os.environ))
    url = resolve(anchor.webhook or "", os.environ, where=where)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise where.error("the webhook must be an http or https URL.")
    headers = {
        name: resolve(value, os.environ, where=where) for name, value in anchor.headers.items()
    }
    return WebhookAnchor(url, headers)


def _seconds(age: "Age") -> int:
    return int(age[:-1]) * _UNITS[age[-1]]
