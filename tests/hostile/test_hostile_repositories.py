# SPDX-License-Identifier: Apache-2.0
"""Names and shapes in signed or unsigned metadata that try to break the trust client or leave its directory."""

import json
from pathlib import Path

import pytest

from signing.errors import BadInput, NotListed, SigningError
from signing.target_cache import file_name
from tests.signing.fleet_documents import NOW
from tests.signing.repository_simulator import RepositorySimulator
from tests.signing.victim import Victim, honest_release, installed_victim, names

HOSTILE_NAMES = (
    "..",
    ".",
    "../../escaped",
    "/escaped",
    "a/../../escaped",
    "a\\..\\b",
    "nul\0byte",
    "a" * 300,
    "é" * 200,
)


class TestPathTraversal:
    @pytest.mark.parametrize("path", HOSTILE_NAMES)
    def test_by_a_target_stays_in_its_directory(self, tmp_path: Path, path: str) -> None:
        victim = Victim(tmp_path / "inner", RepositorySimulator(NOW))
        victim.fleet.add_target("targets", path, b"hostile")
        victim.fleet.release("targets")
        victim.client.refresh()
        file = victim.client.download(path, tmp_path / "inner" / "here")
        assert victim.client.read_target(path, max_bytes=100) == b"hostile"
        assert file.parent == tmp_path / "inner" / "here"
        assert file.read_bytes() == b"hostile"
        assert names(tmp_path) == ["inner"]
        assert names(tmp_path / "inner") == ["here", "metadata", "targets"]

    @pytest.mark.parametrize("role", ["..", ".", "../escaped", "/escaped", "a/../../escaped"])
    def test_by_a_role_stays_in_its_directory(self, tmp_path: Path, role: str) -> None:
        victim = Victim(tmp_path / "inner", RepositorySimulator(NOW))
        victim.fleet.delegate("targets", role, ["*"])
        victim.fleet.release("targets", role)
        victim.client.refresh()
        with pytest.raises(NotListed):
            victim.client.read_target("anything", max_bytes=100)
        assert victim.client.versions()[role] == 1
        assert names(tmp_path) == ["inner"]
        assert names(tmp_path / "inner") == ["metadata"]
        assert len([name for name in names(tmp_path / "inner" / "metadata") if name.endswith(".json")]) == 5

    def test_two_long_names_do_not_share_a_file(self) -> None:
        names = {file_name("é" * 200), file_name("é" * 201), file_name("é" * 200 + "a")}
        assert len(names) == 3
        assert max(map(len, names)) == 255

    def test_a_name_that_is_no_name(self) -> None:
        for path in ("", "\ud800"):
            with pytest.raises(BadInput):
                file_name(path)


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets", "patches"])
def test_no_shape_of_metadata_breaks_the_client(tmp_path: Path, role: str) -> None:
    """Each field of the file is replaced by each kind of JSON, and refused in the client's own words."""
    victim = installed_victim(tmp_path)
    if role == "root":
        victim.fleet.publish("root")
    else:
        honest_release(victim.fleet)
    path = victim.fleet.metadata_path(role)
    honest = victim.fleet.files[path]
    values: list[object] = [None, -1, 2**70, 1.5, "", [], {}, [[]], {"": {}}, "9" * 10_000]
    for field in json.loads(honest)["signed"]:
        for value in values:
            if (field, value) == ("spec_version", None):
                continue  # tuf takes null for its own version, and so finds the signature valid
            hostile = json.loads(honest)
            hostile["signed"][field] = value
            victim.fleet.files[path] = json.dumps(hostile).encode()
            with pytest.raises(SigningError):
                victim.look()
