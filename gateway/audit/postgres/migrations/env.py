"""What alembic runs around the migrations: one transaction, one at a time."""

from alembic import context
from sqlalchemy import Connection, text

from gateway.audit.postgres.schema import SCHEMA

_LOCK = 0x67617465776179  # "gateway"

connection: Connection = context.config.attributes["connection"]
connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
known = connection.execute(
    text("SELECT 1 FROM pg_namespace WHERE nspname = :name"), {"name": SCHEMA}
)
if known.first() is None:
    connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
context.configure(connection=connection, version_table_schema=SCHEMA)
context.run_migrations()
