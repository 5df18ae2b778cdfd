"""Brings a database to this program's schema, by alembic."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gateway.audit.postgres.address import Address, StoreUnavailable, said
from gateway.audit.postgres.schema import READER, REVISION, SCHEMA, WRITER, revision_of
from gateway.errors import UserError

if TYPE_CHECKING:
    import psycopg

_MIGRATIONS: Final = Path(__file__).with_name("migrations")


def migrate(address: Address) -> tuple[str | None, str]:
    """Run the migrations that are missing, all or none: the revision before, and the one after.

    Raises UserError where the role may not do that, or the schema is newer than the program.
    """
    try:
        connection = address.connect(autocommit=False)
    except StoreUnavailable as error:
        raise UserError(f"the audit store cannot be reached: {error}") from None
    with connection:
        connection.autocommit = True
        _require_utf8(connection)
        before = _revision(connection)
        if before is not None and before > REVISION:
            raise UserError(
                f"the database's schema {before} is newer than this program's, {REVISION}; "
                "upgrade the program"
            )
        connection.autocommit = False
        if before != REVISION:
            _upgrade(connection)
    return before, REVISION


def _require_utf8(connection: "psycopg.Connection[Any]") -> None:
    row = connection.execute("SHOW server_encoding").fetchone()
    if row is None or row[0] != "UTF8":
        raise UserError(
            "the database does not keep UTF-8, so it cannot keep records as they are; make it "
            "with ENCODING 'UTF8'"
        )


def _revision(connection: "psycopg.Connection[Any]") -> str | None:
    try:
        return revision_of(connection)
    except StoreUnavailable:
        raise UserError(
            f"this role may not look at the schema {SCHEMA}; migrate as the role that owns it"
        ) from None


def _upgrade(connection: "psycopg.Connection[Any]") -> None:
    import psycopg
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import StaticPool

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: connection, poolclass=StaticPool
    )
    try:
        with engine.begin() as begun:
            config.attributes["connection"] = begun
            command.upgrade(config, REVISION)
    except SQLAlchemyError as error:
        cause = error.__cause__ or getattr(error, "orig", None) or error
        if isinstance(cause, psycopg.errors.InsufficientPrivilege):
            raise UserError(
                f"the role may not do all that a migration does ({said(cause)}); let it own the "
                f"schema {SCHEMA} or create one, and let an administrator run "
                f"`CREATE ROLE {WRITER}; CREATE ROLE {READER};` first"
            ) from None
        raise UserError(f"the migration failed, nothing was changed: {said(cause)}") from None
    except CommandError as error:
        raise UserError(f"the migration failed, nothing was changed: {error}") from None
    finally:
        engine.dispose(close=False)
