# SPDX-License-Identifier: Apache-2.0
"""The coordinator's tables. A change of shape raises SCHEMA_VERSION and brings a step in migrations.py."""

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

SCHEMA_VERSION = 3

metadata = MetaData()

schema = Table(
    "schema",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
)

devices = Table(
    "devices",
    metadata,
    Column("device", Text, primary_key=True),
    Column("segment", Text, nullable=False),
    Column("site", Text, nullable=False, index=True),
    Column("public_pem", LargeBinary, nullable=False),
    Column("token_sha256", Text, nullable=False),
    Column("enrolled_at", Integer, nullable=False),
    Column("certificate_expires", Integer, nullable=False),
    Column("enrolment", Integer, nullable=False),
    Column("removed_at", Integer),  # set: the device is gone; its row keeps count of enrolments, and its reports a home
)

tokens = Table(
    "tokens",
    metadata,
    Column("secret_sha256", Text, primary_key=True),
    Column("segment", Text, nullable=False),
    Column("site", Text, nullable=False),
    Column("root_version", Integer, nullable=False),
    Column("expires_at", Integer, nullable=False),
    Column("uses_left", Integer, nullable=False),
    Column("device", Text),
    CheckConstraint("uses_left >= 0", name="a_token_is_never_overspent"),
)

reports = Table(
    "reports",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("device", Text, ForeignKey("devices.device"), nullable=False),
    Column("enrolment", Integer, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("received_at", Integer, nullable=False),
    Column("envelope", LargeBinary, nullable=False),  # as it came, for auditors
    # A device that enrols again with a new key starts counting at one again.
    UniqueConstraint("device", "enrolment", "sequence", name="a_sequence_is_used_once"),
)

device_releases = Table(
    "device_releases",
    metadata,
    Column("device", Text, ForeignKey("devices.device"), primary_key=True),
    Column("manifest_sha256", Text, primary_key=True),
    Column("product", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("sequence", Integer, nullable=False),
    Column("time", Integer, nullable=False),
    Column("detail", Text, nullable=False),
    Column("bytes_lan", Integer, nullable=False),
    Column("bytes_origin", Integer, nullable=False),
    Column("bytes_web", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("forgiven", Boolean, nullable=False, server_default=text("0")),
    Index("by_manifest", "manifest_sha256"),
)

measurements = Table(
    "measurements",
    metadata,
    Column("device", Text, ForeignKey("devices.device"), primary_key=True),
    Column("time", Integer, nullable=False),
    Column("wan_bytes_per_s", Float),
    Column("intake_bytes_per_s", Float),
    Column("origin_bytes_per_s", Float),
    Column("lan_in_bytes_per_s", Float),
    Column("lan_out_bytes_per_s", Float),
    Column("origin_round_trip", Float),
    Column("peer_round_trip", Float),
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("manifest_sha256", Text, primary_key=True),
    Column("product", Text, nullable=False, index=True),
    Column("version", Text, nullable=False),
    Column("release_counter", Integer, nullable=False),
    Column("segments", Text, nullable=False),  # JSON list of names
    Column("state", Text, nullable=False),
    Column("open_rings", Integer, nullable=False),
    Column("drafted", Text, nullable=False),  # JSON list of [device, ring]
    Column("passed_since", Float),
    Column("reason", Text),
    Column("sentence", Text, nullable=False),
)

resumptions = Table(
    "resumptions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("manifest_sha256", Text, ForeignKey("rollouts.manifest_sha256"), nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("time", Integer, nullable=False),
    Column("who", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("subject", Text, nullable=False, index=True),
    Column("reason", Text),
    Column("detail", Text, nullable=False),
)
