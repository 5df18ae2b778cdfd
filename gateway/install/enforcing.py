"""Ends observe mode: two values of gateway.yaml, changed in place."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gateway.config.files import find
from gateway.config.load import load
from gateway.config.settings import Settings
from gateway.documents import read_yaml
from gateway.errors import UserError
from gateway.install import yaml_text
from gateway.install.clients import config_home
from gateway.install.disk import PRIVATE, Disk
from gateway.install.installing import accept_as_shown, follow
from gateway.install.ledger import Accepting
from gateway.install.targets import check_config, config_path

if TYPE_CHECKING:
    from gateway.policy.results import ResultRule
    from gateway.policy.rules import Rule

_VALUES = {"mode": "enforce", "native_tools": "enforce"}


class Enforcing(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration's file before and after, and what is accepted by running this, if any."""

    path: Path
    before: bytes
    after: bytes
    trust: Accepting | None
    observing: tuple[str, ...] = ()
    """What goes on to be recorded only, because the configuration says so of it alone."""


def propose_enforcing(
    config: Path | None, cwd: Path, environ: Mapping[str, str], disk: Disk
) -> Enforcing:
    """What ending observe mode would change; raises UserError where there is no configuration."""
    place = find(config, cwd=cwd, environ=environ)
    before = disk.read(place.config) if place.config is not None else None
    if place.config is None or before is None:
        raise UserError(
            "there is no gateway.yaml, and without one everything is enforced; `gateway init` "
            "makes one",
            path=str(place.config or place.root),
        )
    try:
        text = before.decode()
    except UnicodeDecodeError:
        raise UserError("is not UTF-8; save it as UTF-8", path=str(place.config)) from None
    after = yaml_text.set_values(text, _VALUES, path=str(place.config)).encode()
    digest = check_config(place.config, after)
    loaded = load(place.config, cwd=place.root, trusted=False)
    trusted = loaded.accepted and not loaded.held
    return Enforcing(
        path=place.config,
        before=before,
        after=after,
        trust=Accepting(str(place.config), digest) if trusted else None,
        observing=tuple(_observing(load(place.config, cwd=place.root, trusted=True).settings)),
    )


def enforce(change: Enforcing, environ: Mapping[str, str], disk: Disk) -> list[str]:
    """Make the change; what a person should still do is the result."""
    if disk.read(change.path) != change.before:
        raise UserError("was changed meanwhile; run this again", path=str(change.path))
    disk.write(change.path, change.after, new_mode=PRIVATE)
    follow(change.path, change.before, change.after, environ, disk)
    told = []
    if change.trust is None:
        told.append(f"{change.path} holds what nobody has accepted yet; run `gateway trust`.")
    elif refused := accept_as_shown(change.trust):
        told.append(refused)
    shared = config_path(Path(), config_home(Path.home(), environ), shared=True)
    if shared != change.path and _observes(shared, disk):
        told.append(f"Servers of all your projects still observe: `gateway enforce -c {shared}`.")
    return told


def _observing(settings: Settings) -> Iterator[str]:
    for name, entry in settings.agents.items():
        if entry.observe:
            yield f"the agent {name} ({entry.path}:{entry.line}, `mode: observe`)"
    rules: tuple[Rule | ResultRule, ...] = (*settings.policies, *settings.results)
    for rule in rules:
        if rule.observe:
            yield f"the rule {rule.name} ({rule.file}:{rule.line}, `observe: true`)"


def _observes(config: Path, disk: Disk) -> bool:
    data = disk.read(config)
    try:
        value = read_yaml((data or b"").decode(), path=str(config)).value
    except (UserError, UnicodeDecodeError):
        return False
    return isinstance(value, dict) and "observe" in (value.get("mode"), value.get("native_tools"))
