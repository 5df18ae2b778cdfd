"""`gateway audit migrate` and `gateway audit ship`: the store in PostgreSQL."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gateway.audit.log import AuditLog
from gateway.audit.notes import Verifier
from gateway.audit.postgres.address import Address, StoreUnavailable, require_driver
from gateway.audit.verify.findings import Report
from gateway.cli import output
from gateway.config.load import load
from gateway.config.settings import Settings
from gateway.config.store import address_named, reading_address, store_address
from gateway.errors import UserError

EXIT_REFUSED = 1


def chosen_address(store: str | None, config: Path | None) -> Address:
    """The store that the command line names, else the configured one; raises UserError."""
    require_driver()
    if store is not None:
        return address_named(store, os.environ)
    return store_address(load(config, cwd=Path.cwd(), trusted=False).settings, os.environ)


@contextmanager
def opened_store(store: str | None, config: Path | None) -> Iterator[AuditLog]:
    """The store as readers ask it: the one that is named, else that of audit.read_from."""
    from gateway.audit.postgres.log import PostgresLog

    require_driver()
    if store is not None:
        address = address_named(store, os.environ)
    else:
        settings = load(config, cwd=Path.cwd(), trusted=False).settings
        address = reading_address(settings, os.environ)
    with PostgresLog.open(address) as log:
        yield log


def migrate_store(store: str | None, config: Path | None) -> None:
    """Bring the store to this program's schema and say what was done."""
    address = chosen_address(store, config)
    try:
        from gateway.audit.postgres.migrating import migrate

        before, after = migrate(address)
    except ImportError:
        raise UserError(
            "migrating needs the package alembic; install mcp-tool-gateway[postgres]"
        ) from None
    if before == after:
        output.print_line(f"The schema is at {after} already; nothing was changed.")
    elif before is None:
        output.print_line(f"Made the schema, {after}.")
    else:
        output.print_line(f"Migrated the schema from {before} to {after}.")


def ship_journals(directory: Path, store: str | None, config: Path | None) -> int:
    """Copy every journal of `directory` to the store, and say how much; the exit code."""
    from gateway.audit.postgres.copying import Copier
    from gateway.audit.postgres.schema import require_schema
    from gateway.audit.postgres.source import Differs, sources

    address = chosen_address(store, config)
    records = journals = refused = 0
    try:
        with address.connect() as connection:
            require_schema(connection)
            copier = Copier(connection)
            found = sources(directory)
            heads = copier.heads(found)
            for writer, source in found.items():
                head = heads.get(writer)
                before = 0 if head is None else head.seq
                try:
                    after = copier.copy(source).seq
                except Differs as error:
                    refused += 1
                    output.print_line(f"{writer}: not copied: {error}")
                    continue
                except OSError as error:
                    refused += 1
                    output.print_line(f"{writer}: cannot be read: {error.strerror}")
                    continue
                if after > before:
                    records += after - before
                    journals += 1
    except StoreUnavailable as error:
        raise UserError(f"the audit store cannot be used: {error}") from None
    output.print_line(
        f"Copied {records} records of {journals} journals; the store has those of "
        f"{len(found) - refused} of {len(found)} here."
    )
    return EXIT_REFUSED if refused else 0


def verified_store(
    store: str,
    verifiers: Sequence[Verifier],
    anchored: Iterable[Path],
    processes: int,
) -> Report:
    """The report on what is in the store; raises UserError."""
    from gateway.audit.postgres.verifying import verify_store
    from gateway.cli.audit_verify import notes_in

    require_driver()
    address = address_named(store, os.environ)
    return verify_store(address, verifiers, notes_in(anchored), processes=processes)


def copied_bytes(directory: Path, settings: Settings) -> dict[str, int]:
    """How many bytes of each segment of `directory` the configured store has; raises UserError."""
    from gateway.audit.postgres.copying import Copier
    from gateway.audit.postgres.schema import require_schema
    from gateway.audit.postgres.source import sources

    require_driver()
    try:
        with store_address(settings, os.environ).connect() as connection:
            require_schema(connection)
            return Copier(connection).copied(sources(directory))
    except StoreUnavailable as error:
        raise UserError(f"nothing was deleted, the audit store cannot be asked: {error}") from None
