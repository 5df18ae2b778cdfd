"""`gateway audit keys`: the keys that sign checkpoints; `gateway audit checkpoint`: the newest."""

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.audit.checkpoint_files import Kept, encode_kept, read_kept
from gateway.audit.files import checkpoints_file
from gateway.audit.notes import Signer
from gateway.audit.signing_keys import create_key, own_signer, read_verifiers, verifiers_file
from gateway.cli import output
from gateway.errors import UserError
from gateway.state import make_private_directory

if TYPE_CHECKING:
    from gateway.config.settings import Settings

_where = click.option(
    "--directory",
    type=click.Path(path_type=Path),
    help="The audit directory, if not the configured one.",
)
_config = click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration. Default: gateway.yaml here or above, else .mcp.json.",
)


@click.group(name="keys")
def keys() -> None:
    """The keys that sign the checkpoints of the log."""


@keys.command()
@click.option("--name", help="What the key is called, such as example.com/audit.")
@_where
@_config
def create(name: str | None, directory: Path | None, config: Path | None) -> None:
    """Make a signing key beside the log. Journals that are opened from now on are signed.

    Its public half is printed: keep it elsewhere, for whoever verifies.
    """
    where = _directory(directory, config)
    make_private_directory(where)
    signer = create_key(where, name or f"mcp-tool-gateway/{secrets.token_hex(4)}")
    output.print_line(signer.verifier().text())


@keys.command()
@_where
@_config
def rotate(directory: Path | None, config: Path | None) -> None:
    """Replace the signing key by a new one of the same name.

    The journal of this command says so, signed by both. Gateways that run go on with the old one
    until they are started again.
    """
    where = _directory(directory, config)
    former = own_signer(where)
    if former is None:
        raise UserError(
            "there is no signing key here; make one with `gateway audit keys create`",
            path=str(where),
        )
    signer = create_key(where, former.name, replace=True)
    _record_rotation(where, former, signer)
    output.print_line(signer.verifier().text())


@keys.command(name="list")
@_where
@_config
def list_keys(directory: Path | None, config: Path | None) -> None:
    """Print the public half of every key that signed here, the newest last."""
    for verifier in read_verifiers(verifiers_file(_directory(directory, config))):
        output.print_line(verifier.text())


@click.command(name="checkpoint")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@_where
@_config
def checkpoint(directory: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Print the newest signed checkpoint of every journal, to be kept elsewhere.

    `gateway audit verify --anchored FILE` reads both forms again.
    """
    where = _directory(directory, config)
    path = checkpoints_file(where)
    newest: dict[str, Kept] = {}
    for kept in read_kept(path) if path.exists() else ():
        if kept.note is not None and kept.size >= newest.get(kept.journal, kept).size:
            newest[kept.journal] = kept
    if not newest:
        raise UserError(
            "no checkpoint has been signed here; make a key with `gateway audit keys create`, "
            "and start the gateway again",
            path=str(where),
        )
    for journal in sorted(newest):
        if as_json:
            click.echo(encode_kept(newest[journal]))
        else:
            click.echo(newest[journal].note)


@click.command(name="bundle")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_where
@_config
def bundle(file: Path, directory: Path | None, config: Path | None) -> None:
    """Put journals, checkpoints and public keys into FILE, a .tar or .tar.gz, for another person.

    `gateway audit verify FILE --key KEY` verifies it anywhere.
    """
    from gateway import __version__
    from gateway.audit.bundles import make_bundle

    where = _directory(directory, config)
    if not where.is_dir():
        raise UserError("there is no audit log here; name its directory", path=str(where))
    number = make_bundle(
        where, file, program=__version__, signer=signer_here(where, directory, config)
    )
    output.print_line(f"{file}: {number} journal files")


def signer_here(where: Path, named: Path | None, config: Path | None) -> Signer | None:
    """The key that signs in the audit directory `where`: the configured one, else that beside it.

    `named` is the directory if the command line names it: then no configuration is asked.
    """
    settings = None if named is not None else settings_here(config)
    if settings is None:
        return own_signer(where)
    from gateway.config.evidence import signer_of

    return signer_of(settings, where)


def settings_here(config: Path | None) -> "Settings | None":
    """The settings that hold here; None without a configuration. Raises UserError."""
    from gateway.config.files import find
    from gateway.config.load import load

    try:
        find(config, cwd=Path.cwd(), environ=os.environ)
    except UserError:
        if config is not None:
            raise
        return None
    return load(config, cwd=Path.cwd(), trusted=False).settings


def _record_rotation(where: Path, former: Signer, signer: Signer) -> None:
    from gateway import __version__
    from gateway.audit.checkpoints import Checkpoints
    from gateway.audit.errors import AuditUnavailable
    from gateway.audit.journal import Journal
    from gateway.audit.records import Event, timestamp

    journal = Journal.open(
        where,
        durability="process",
        version=__version__,
        checkpoints=Checkpoints(where, [former, signer]),
    )
    data = {"former": former.verifier().text(), "key": signer.verifier().text()}
    try:
        journal.append(Event(time=timestamp(), event="audit.key-rotated", data={**data}))
    except AuditUnavailable as error:
        raise UserError(f"the key was replaced, but not recorded: {error}") from error
    finally:
        journal.close()


def _directory(named: Path | None, config: Path | None) -> Path:
    from gateway.cli.audit_options import audit_directory

    return named if named is not None else audit_directory(config)
