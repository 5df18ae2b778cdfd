"""The shared audit store on a PostgreSQL of its own, with a role for each part that it plays."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.audit.postgres.address import Address
from gateway.audit.postgres.copying import Copier
from gateway.audit.postgres.migrating import migrate
from gateway.audit.postgres.schema import READER, WRITER
from gateway.audit.postgres.source import sources
from tests.real.postgres import Postgres

PASSWORD = "planted-Pa55w0rd-of-the-store"
HBA = """
local all postgres trust
local all all scram-sha-256
hostssl all all 127.0.0.1/32 scram-sha-256
"""


class Store:
    """A database with the schema, its owner, and the roles of two gateways and of a reader."""

    def __init__(self, postgres: Postgres) -> None:
        self.postgres = postgres
        with postgres.connect() as connection:
            connection.execute("CREATE DATABASE audit")
            connection.execute(f"CREATE ROLE auditor LOGIN CREATEROLE PASSWORD '{PASSWORD}'")
            connection.execute("ALTER DATABASE audit OWNER TO auditor")
        migrate(self.owner)
        with postgres.connect() as connection:
            for name, role in (("one", WRITER), ("two", WRITER), ("looker", READER)):
                connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
                connection.execute(f"GRANT {role} TO {name}")

    @property
    def owner(self) -> Address:
        return self.address("auditor")

    @property
    def gateway(self) -> Address:
        return self.address("one")

    @property
    def reader(self) -> Address:
        return self.address("looker")

    def address(self, user: str, password: str = PASSWORD) -> Address:
        return Address(self.postgres.address(user, password, "audit"))

    def lines(self) -> dict[str, list[bytes]]:
        """The records of each journal as the store has them, in their order."""
        found: dict[str, list[bytes]] = {}
        with self.owner.connect() as connection:
            tables = " UNION ALL ".join(
                f"SELECT journal, seq, line FROM gateway_audit.{table}"
                for table in ("decision", "outcome", "event")
            )
            rows = connection.execute(
                f"SELECT name, line FROM ({tables}) AS record "
                "JOIN gateway_audit.journal ON journal.id = journal ORDER BY name, record.seq"
            )
            for name, line in rows:
                found.setdefault(name, []).append(line)
        return found


@contextmanager
def store_of(directory: Path | None = None, **settings: str) -> Iterator[Store]:
    """A store, and the journals of an audit directory copied to it."""
    with Postgres(hba=HBA, **settings) as postgres:
        store = Store(postgres)
        if directory is not None:
            copy(directory, store.gateway)
        yield store


def copy(directory: Path, address: Address) -> None:
    """Copy every journal of an audit directory."""
    with address.connect() as connection:
        copier = Copier(connection)
        for source in sources(directory).values():
            copier.copy(source)


def journal_lines(directory: Path) -> dict[str, list[bytes]]:
    """The whole lines of each journal of an audit directory."""
    return {
        path.name.partition(".")[0]: path.read_bytes().split(b"\n")[:-1]
        for path in sorted((directory / "journal").iterdir())
    }
