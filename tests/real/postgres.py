"""A PostgreSQL of its own for one test world: empty but for two small tables, gone when stopped."""

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import psutil
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
    # So that a test can say what reached it.
    "log_statement": "all",
}
_STATEMENT = re.compile(r"\bLOG:  (?:statement|execute [^:]*): ")


class Postgres:
    """Started on entry, stopped on exit.

    It listens on a Unix socket in a folder that only its own user can enter, and on no port.
    The server process gets SIGQUIT when the thread that started it ends, so start it from a thread
    that lives as long as the database is needed. `settings` replace its own; `hba` is the content
    of pg_hba.conf, in place of one that trusts everybody who reaches the socket.
    """

    def __init__(self, *, hba: str | None = None, **settings: str) -> None:
        self._hba = hba
        self._settings = _SETTINGS | settings
        self._directory: Path | None = None
        self._log: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        """A connection string for the superuser and the database with the fixture rows."""
        return self.address("postgres")

    @property
    def directory(self) -> Path:
        """Where its socket and its data are."""
        assert self._directory is not None
        return self._directory

    def address(self, user: str, password: str = "", database: str = "postgres") -> str:
        """A connection string over the Unix socket."""
        login = f"{user}:{password}" if password else user
        port = self._settings.get("port", "5432")
        return f"postgresql://{login}@/{database}?host={self._directory}&port={port}"

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection of the superuser that commits each statement."""
        return psycopg.connect(self.dsn, autocommit=True)

    def halt(self) -> None:
        """Stop the server and keep its data; every session ends."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        self._process.wait(10)
        self._process = None

    def resume(self, **settings: str) -> None:
        """Start the server again, after `halt`, with changed settings."""
        self._settings |= settings
        self._launch()
        self._connect_when_ready(timeout_s=20).close()

    def freeze(self, frozen: bool) -> None:
        """Stop the server with all its sessions in the middle of things, or let it go on.

        Whoever waits for an answer waits: nothing is closed.
        """
        assert self._process is not None
        family = psutil.Process(self._process.pid)
        for process in (family, *family.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def statements(self) -> int:
        """How many statements have reached the server so far, by its own log."""
        assert self._directory is not None
        return len(_STATEMENT.findall((self._directory / "log").read_text(errors="replace")))

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
        if self._hba is not None:
            (data / "pg_hba.conf").write_text(self._hba)
        self._log = (self._directory / "log").open("wb")
        self._launch()
        with self._connect_when_ready(timeout_s=20) as connection:
            connection.execute(_FIXTURE)

    def _launch(self) -> None:
        assert self._directory is not None
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        self._process = subprocess.Popen(
            [
                *(*_drop_root(self._directory), str(postgres_program("postgres"))),
                *("-D", str(self._directory / "data"), "-k", str(self._directory), *settings),
            ],
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )

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
