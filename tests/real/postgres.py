"""A PostgreSQL of its own for one test world: empty but for two small tables, gone when stopped."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import psycopg

from tests.real.installed import postgres_program

_FIXTURE = """
create table products (
    id integer generated always as identity primary key,
    name text not null unique,
    price numeric(8, 2) not null
);
create table orders (
    id integer generated always as identity primary key,
    product_id integer not null references products (id),
    quantity integer not null check (quantity > 0),
    ordered_at timestamptz not null
);
insert into products (name, price) values ('kettle', 24.90), ('lamp', 61.00), ('chair', 129.50);
insert into orders (product_id, quantity, ordered_at) values
    (1, 2, '2026-01-05T10:00:00Z'),
    (3, 1, '2026-01-06T11:30:00Z');
"""

# Nothing here has to survive a crash, so no write waits for the disk.
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "40",
}


class Postgres:
    """Started on entry, stopped on exit.

    It listens on a Unix socket in a folder that only its own user can enter, and on no port.
    The server process gets SIGQUIT when the thread that started it ends, so start it from a thread
    that lives as long as the database is needed.
    """

    def __init__(self) -> None:
        self._directory: Path | None = None
        self._log: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        """A connection string for the superuser and the database with the fixture rows."""
        return f"postgresql://postgres@/postgres?host={self._directory}"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server and remove its data; harmless when it is stopped already."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGQUIT)
                self._process.wait(10)
            self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def _start(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="real-postgres-"))
        as_user = _drop_root(self._directory)
        data = self._directory / "data"
        initdb = subprocess.run(
            [
                *(*as_user, str(postgres_program("initdb")), "--pgdata", str(data)),
                *("--username", "postgres", "--auth", "trust", "--no-sync"),
                *("--encoding", "UTF8", "--locale", "C.UTF-8"),
            ],
            cwd=self._directory,
            capture_output=True,
            text=True,
            check=False,
        )
        if initdb.returncode != 0:
            raise RuntimeError(f"initdb failed: {initdb.stderr.strip()}")
        self._log = (self._directory / "log").open("wb")
        settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        self._process = subprocess.Popen(
            [
                *(*as_user, str(postgres_program("postgres")), "-D", str(data)),
                *("-k", str(self._directory), *settings),
            ],
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        with self._connect_when_ready(timeout_s=20) as connection:
            connection.execute(_FIXTURE)

    def _connect_when_ready(self, timeout_s: float) -> psycopg.Connection[tuple[object, ...]]:
        assert self._process is not None
        assert self._directory is not None
        give_up_at = time.monotonic() + timeout_s
        while time.monotonic() < give_up_at and self._process.poll() is None:
            with contextlib.suppress(psycopg.OperationalError):
                return psycopg.connect(self.dsn)
            time.sleep(0.03)
        log = (self._directory / "log").read_text(errors="replace")
        raise RuntimeError(f"PostgreSQL did not start: {log[-2000:].strip()}")


def _drop_root(directory: Path) -> list[str]:
    """The command prefix that runs a program as an unprivileged user, the owner of `directory`."""
    # The parent-death signal leaves no database behind even when this process is killed.
    prefix = ["setpriv", "--pdeathsig", "QUIT"]
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(directory, user.pw_uid, user.pw_gid)
        prefix += [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return [*prefix, "--"]
