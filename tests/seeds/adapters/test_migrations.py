# SPDX-License-Identifier: Apache-2.0
"""A database of an earlier p2pd is brought up to date when it is opened, with everything in it."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import inspect

from seeds.adapters import migrations
from seeds.adapters.store import Store
from seeds.adapters.tables import SCHEMA_VERSION
from seeds.records import Said
from signing.errors import BadInput
from signing.report import InstallState

VERSION_1 = """
CREATE TABLE schema (version INTEGER NOT NULL, PRIMARY KEY (version));
CREATE TABLE devices (device TEXT NOT NULL, segment TEXT NOT NULL, site TEXT NOT NULL, public_pem BLOB NOT NULL,
    token_sha256 TEXT NOT NULL, enrolled_at INTEGER NOT NULL, certificate_expires INTEGER NOT NULL,
    enrolment INTEGER NOT NULL, PRIMARY KEY (device));
CREATE INDEX ix_devices_site ON devices (site);
CREATE TABLE tokens (secret_sha256 TEXT NOT NULL, segment TEXT NOT NULL, site TEXT NOT NULL,
    root_version INTEGER NOT NULL, expires_at INTEGER NOT NULL, uses_left INTEGER NOT NULL, device TEXT,
    PRIMARY KEY (secret_sha256), CONSTRAINT a_token_is_never_overspent CHECK (uses_left >= 0));
CREATE TABLE reports (id INTEGER NOT NULL, device TEXT NOT NULL, enrolment INTEGER NOT NULL, sequence INTEGER NOT NULL,
    received_at INTEGER NOT NULL, envelope BLOB NOT NULL, PRIMARY KEY (id),
    CONSTRAINT a_sequence_is_used_once UNIQUE (device, enrolment, sequence),
    FOREIGN KEY(device) REFERENCES devices (device));
CREATE TABLE device_releases (device TEXT NOT NULL, manifest_sha256 TEXT NOT NULL, product TEXT NOT NULL,
    version TEXT NOT NULL, state TEXT NOT NULL, reason TEXT, sequence INTEGER NOT NULL, time INTEGER NOT NULL,
    detail TEXT NOT NULL, bytes_lan INTEGER NOT NULL, bytes_origin INTEGER NOT NULL, bytes_web INTEGER NOT NULL,
    seconds FLOAT NOT NULL, PRIMARY KEY (device, manifest_sha256), FOREIGN KEY(device) REFERENCES devices (device));
CREATE INDEX by_manifest ON device_releases (manifest_sha256);
CREATE TABLE rollouts (manifest_sha256 TEXT NOT NULL, product TEXT NOT NULL, version TEXT NOT NULL,
    release_counter INTEGER NOT NULL, segments TEXT NOT NULL, state TEXT NOT NULL, open_rings INTEGER NOT NULL,
    drafted TEXT NOT NULL, passed_since FLOAT, reason TEXT, sentence TEXT NOT NULL, PRIMARY KEY (manifest_sha256));
CREATE INDEX ix_rollouts_product ON rollouts (product);
CREATE TABLE audit (id INTEGER NOT NULL, time INTEGER NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL,
    subject TEXT NOT NULL, reason TEXT, detail TEXT NOT NULL, PRIMARY KEY (id));
CREATE INDEX ix_audit_subject ON audit (subject);
INSERT INTO schema VALUES (1);
INSERT INTO devices VALUES ('pc-1', 'office', 'paris', x'00', 'a', 1, 2, 1);
INSERT INTO device_releases VALUES ('pc-1', 'm', 'tzdata', '1', 'committed', NULL, 1, 1, '', 0, 0, 0, 0.0);
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "old.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1)
    return path


def shape(store: Store) -> dict[str, dict[str, tuple[str, bool]]]:
    with store.reading() as transaction:
        found = inspect(transaction.connection)
        return {
            table: {column["name"]: (str(column["type"]), column["nullable"]) for column in found.get_columns(table)}
            for table in found.get_table_names()
        }


def test_an_older_database_gets_the_shape_of_a_new_one_and_keeps_its_rows(old: Path, tmp_path: Path) -> None:
    for _ in range(2):  # the second time there is nothing to do
        with Store(old) as migrated, Store(tmp_path / "new.sqlite") as new:
            assert shape(migrated) == shape(new)
            with migrated.reading() as transaction:
                (device,) = transaction.devices()
                assert (device.device, device.site) == ("pc-1", "paris")
                assert transaction.said(["m"]) == {"m": {"pc-1": Said(state=InstallState.COMMITTED)}}
                version = transaction.connection.exec_driver_sql("SELECT version FROM schema").scalar_one()
            assert version == SCHEMA_VERSION


def test_a_step_that_fails_leaves_the_database_as_it_was(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = (*migrations._STEPS[1], "ALTER TABLE moon ADD COLUMN dust")
    monkeypatch.setitem(migrations._STEPS, 1, broken)
    with pytest.raises(BadInput, match="moon"):
        Store(old)
    monkeypatch.undo()
    with Store(old) as store, store.reading() as transaction:
        assert [device.device for device in transaction.devices()] == ["pc-1"]
