# SPDX-License-Identifier: Apache-2.0
"""Every mistake in fleet.toml is named with its key."""

from pathlib import Path

import pytest

from seeds.config import Address, load_fleet_config
from signing.errors import BadInput

GOOD = """
public_url = "https://origin:8443"
agent_url = "https://origin:8444"
segments = ["office"]
[[public]]
host = "127.0.0.1"
port = 8443
[[agent]]
host = "127.0.0.1"
port = 8444
[[keys]]
role = "snapshot"
uris = ["encrypted-file:keys/online/snapshot.pem"]
"""


def load(directory: Path, text: str) -> object:
    path = directory / "fleet.toml"
    path.write_text(text)
    return load_fleet_config(path)


def test_what_is_not_said_has_a_safe_default(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(GOOD)
    config = load_fleet_config(tmp_path / "fleet.toml")
    assert config.metrics == (Address(host="127.0.0.1", port=9464),)
    assert config.uris_of("snapshot") == ("encrypted-file:keys/online/snapshot.pem",)
    assert config.uris_of("root") == ()
    assert (config.certificate_days, config.renewal_grace_days) == (30, 90)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("public_url", "public_ulr", "did you mean 'public_url'"),
        ('agent_url = "https', 'agent_url = "http', "must be an https"),
        ("origin:8444", "origin:0", "must be an https"),
        ("origin:8444", "origin:99999", "must be an https"),
        ("port = 8443", "port = 65536", "between 0 and 65535"),
        ('["office"]', '["Office"]', "segment 'Office'"),
        ('["office"]', "[]", "segments has 0 items"),
        ('["office"]', '["office", "office"]', "something twice"),
        ('role = "snapshot"', 'role = "snapshots"', "did you mean 'snapshot'"),
        ("segments", "certificate_days = 0\nsegments", "certificate_days 0"),
        ("[[public]]", "[[publik]]", "did you mean 'public'"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, old: str, new: str, problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        load(tmp_path, GOOD.replace(old, new, 1))
