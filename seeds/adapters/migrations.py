# SPDX-License-Identifier: Apache-2.0
"""Steps from older shapes of the database to the newest. One that was ever released is never changed."""

from sqlalchemy import Connection, update

from seeds.adapters import tables

_STEPS: dict[int, tuple[str, ...]] = {
    1: (
        "ALTER TABLE devices ADD COLUMN removed_at INTEGER",
        "ALTER TABLE device_releases ADD COLUMN forgiven BOOLEAN DEFAULT 0 NOT NULL",
        "CREATE TABLE resumptions (id INTEGER NOT NULL, manifest_sha256 TEXT NOT NULL, PRIMARY KEY (id), "
        "FOREIGN KEY(manifest_sha256) REFERENCES rollouts (manifest_sha256))",
    ),
    2: (
        "CREATE TABLE measurements (device TEXT NOT NULL, time INTEGER NOT NULL, wan_bytes_per_s FLOAT, "
        "intake_bytes_per_s FLOAT, origin_bytes_per_s FLOAT, lan_in_bytes_per_s FLOAT, lan_out_bytes_per_s FLOAT, "
        "origin_round_trip FLOAT, peer_round_trip FLOAT, PRIMARY KEY (device), "
        "FOREIGN KEY(device) REFERENCES devices (device))",
    ),
}


def migrate(connection: Connection, version: int) -> int:
    """Bring a database of `version` as far as there are steps, within the caller's transaction; the version then."""
    while version in _STEPS:
        for statement in _STEPS[version]:
            connection.exec_driver_sql(statement)
        version += 1
        connection.execute(update(tables.schema).values(version=version))
    return version
