"""What the guard `sql` allows, tried on a real PostgreSQL."""

from collections.abc import Iterator

import psycopg
import pytest

from gateway.policy.guards import build
from tests.policy.guards.corpus import ALLOWED
from tests.real.postgres import Postgres

pytestmark = pytest.mark.real

_SYNTAX_ERROR = "42601"
_INSUFFICIENT_PRIVILEGE = "42501"

# Reads a file of the server, or runs a text as SQL, without a name before a bracket saying so.
READING = (
    "select f.pg_read_file from lower('/ETC/HOSTNAME') f",
    "select lower.pg_read_file from lower('/ETC/HOSTNAME')",
    "select ('/etc/hostname'::text).pg_read_file",
    "select (f).pg_read_file from lower('/ETC/HOSTNAME') f",
    "select x.pg_sleep from unnest(array[0.001]) x",
    'select U&"\\0070g_sleep"(0.001)',
)


@pytest.fixture(scope="module")
def connection() -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with Postgres() as server, psycopg.connect(server.dsn) as opened:
        opened.execute("create table t (a int, b text)")
        opened.commit()
        opened.read_only = True
        yield opened


@pytest.mark.parametrize("statement", ALLOWED)
def test_what_is_allowed_is_sql_and_does_not_write(
    connection: psycopg.Connection[tuple[object, ...]], statement: str
) -> None:
    state = "00000"
    try:
        connection.execute(statement.encode())
    except psycopg.Error as error:
        state = error.sqlstate or ""
    finally:
        connection.rollback()
    # The corpus names tables that are not here, and types that do not fit; but all of it is SQL
    # to the server too, and nothing is a write in a transaction that reads only (25006).
    assert state[:2] in ("00", "22", "42")
    assert state not in (_SYNTAX_ERROR, _INSUFFICIENT_PRIVILEGE)


@pytest.mark.parametrize("statement", READING)
def test_calls_that_do_not_look_like_one_work_on_the_server_and_are_refused(
    connection: psycopg.Connection[tuple[object, ...]], statement: str
) -> None:
    try:
        assert connection.execute(statement.encode()).fetchall()
    finally:
        connection.rollback()
    assert build("sql", {}).check(statement) is not None
