# SPDX-License-Identifier: Apache-2.0
"""The coordinator's memory: SQLAlchemy Core on SQLite. Synchronous: services call it in a worker thread.

Every write is one IMMEDIATE transaction, so that two writers (the daemon and `p2pctl`) queue instead of failing
half-way, and is on disk when the block ends (WAL, synchronous=FULL).
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, select
from sqlalchemy.exc import (
    DatabaseError,
    DataError,
    IntegrityError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from p2pd.host.supervise import ServiceFailure
from seeds.adapters import tables
from seeds.adapters.migrations import migrate
from seeds.adapters.transaction import Transaction
from signing.errors import BadInput

BUSY_TIMEOUT_SECONDS = 10  # another process holds the write lock for milliseconds; this is far beyond
_WRITE = "p2pd_write"


class StoreUnavailable(ServiceFailure):
    """The database cannot be read or written now: locked for too long, disk full, or the file is gone."""


class Store:
    """An open database. Use as a context manager, or call `close`."""

    def __init__(self, path: Path) -> None:
        """Open or create the database at `path`. Raises BadInput for a file of another format or version."""
        self._path = path
        try:
            # Made by us rather than by SQLite, whose files are as open as the umask; its side files copy the mode.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as problem:
            raise BadInput(str(path), f"cannot be opened ({problem.strerror})", "check its directory") from None
        self._engine = _engine(path)
        try:
            self._prepare()
        except BaseException:
            self._engine.dispose()
            raise

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """A consistent view of the database. Raises StoreUnavailable."""
        with _translated(self._path), self._engine.connect() as connection, connection.begin():
            yield Transaction(connection)

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """One transaction that is durable when the block ends, and undone when it raises. Raises StoreUnavailable."""
        with (
            _translated(self._path),
            self._engine.connect().execution_options(**{_WRITE: True}) as connection,
            connection.begin(),
        ):
            yield Transaction(connection)

    def _prepare(self) -> None:
        where = str(self._path)
        try:
            with self.writing() as transaction:
                _check_or_create_schema(transaction.connection, where)
        except StoreUnavailable as problem:
            if not isinstance(problem.__cause__, OperationalError):
                raise BadInput(where, "is not a database of p2pd", "restore it from a backup") from None
            raise BadInput(where, f"cannot be opened ({problem})", "check the directory and its permissions") from None


def _engine(path: Path) -> Engine:
    # check_same_thread: the pool hands a connection to one thread at a time, as sqlite3 asks.
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=QueuePool,
        pool_size=4,
        max_overflow=4,
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_SECONDS, "isolation_level": None},
    )
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def _configure(connection: sqlite3.Connection, _: Any) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: Connection) -> None:
    # With isolation_level=None the driver opens no transaction of its own. A deferred one that starts to write later
    # may be refused at once, whatever the timeout (https://www.sqlite.org/lang_transaction.html).
    is_write = connection.get_execution_options().get(_WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")


def _check_or_create_schema(connection: Connection, where: str) -> None:
    names = inspect(connection).get_table_names()
    if not names:
        tables.metadata.create_all(connection)
        connection.execute(insert(tables.schema).values(version=tables.SCHEMA_VERSION))
        return
    if tables.schema.name not in names:
        raise BadInput(where, "is a database of another program", "name another file")
    version = connection.execute(select(tables.schema.c.version)).scalar_one_or_none()
    if version is not None:
        version = migrate(connection, version)
    if version != tables.SCHEMA_VERSION:
        remedy = "upgrade p2pd" if (version or 0) > tables.SCHEMA_VERSION else "restore it from a backup"
        raise BadInput(where, f"has schema version {version}, this p2pd uses {tables.SCHEMA_VERSION}", remedy)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except DatabaseError as problem:
        # A broken constraint or statement is a bug of ours, which a restart would not mend.
        if isinstance(problem, IntegrityError | ProgrammingError | DataError | InternalError | NotSupportedError):
            raise
        raise StoreUnavailable(f"{path.name}: {problem.orig}") from problem
    except PoolTimeout as problem:
        raise StoreUnavailable(f"{path.name}: all connections are busy") from problem
