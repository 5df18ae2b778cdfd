"""Which schema this program works with, and whether a database has it."""

from typing import TYPE_CHECKING, Any, Final

from gateway.audit.postgres.address import StoreUnavailable, said

if TYPE_CHECKING:
    import psycopg

SCHEMA: Final = "gateway_audit"
REVISION: Final = "0001"
"""The newest migration. Revisions are numbers, so that older can be told from newer."""

WRITER: Final = "gateway_audit_writer"
READER: Final = "gateway_audit_reader"
"""The roles that a gateway's and a reader's own roles are members of."""


def require_schema(connection: "psycopg.Connection[Any]") -> None:
    """Raise StoreUnavailable unless the database has the schema of this program."""
    found = revision_of(connection)
    if found is None:
        raise StoreUnavailable(
            "the database has no tables of the gateway; run `gateway audit migrate`"
        )
    if found < REVISION:
        raise StoreUnavailable(
            f"the database's schema {found} is older than this program's, {REVISION}; "
            "run `gateway audit migrate`"
        )
    if found > REVISION:
        raise StoreUnavailable(
            f"the database's schema {found} is newer than this program's, {REVISION}; "
            "upgrade the program"
        )


def require_writer(connection: "psycopg.Connection[Any]") -> None:
    """Raise StoreUnavailable unless this role may append to a database with the right schema."""
    import psycopg

    require_schema(connection)
    may = "SELECT has_function_privilege('gateway_audit.append(text, bigint, bytea)', 'EXECUTE')"
    try:
        row = connection.execute(may).fetchone()
    except psycopg.Error as error:
        raise StoreUnavailable(said(error)) from None
    if row is None or not row[0]:
        raise StoreUnavailable(f"the role may not append; grant it {WRITER}")


def revision_of(connection: "psycopg.Connection[Any]") -> str | None:
    """The migration that a database stands at; None where it has none.

    Raises StoreUnavailable where that cannot be found out.
    """
    import psycopg

    try:
        row = connection.execute("SELECT version_num FROM gateway_audit.alembic_version").fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return None
    except psycopg.errors.InsufficientPrivilege:
        raise StoreUnavailable(
            f"the role has no rights in the schema {SCHEMA}; grant it {WRITER} or {READER}"
        ) from None
    except psycopg.Error as error:
        raise StoreUnavailable(said(error)) from None
    return None if row is None else str(row[0])
