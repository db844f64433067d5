# SPDX-License-Identifier: Apache-2.0
import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError

from signing.codec import encode
from signing.errors import Expired, NotListed, SourceUnavailable
from signing.mirror import MIRROR_METADATA_URL, MIRROR_TARGETS_URL, DirectoryFetcher, Mirror
from signing.policy import POLICY_TARGET
from signing.trust import TrustClient
from tests.signing.fleet_documents import (
    NOW,
    TORRENT,
    add_release,
    make_manifest,
    make_policy,
    serve_fleet,
)
from tests.signing.repository_simulator import RepositorySimulator


@pytest.fixture
def fleet() -> RepositorySimulator:
    return serve_fleet()


@pytest.fixture
def client(fleet: RepositorySimulator, tmp_path: Path) -> TrustClient:
    TrustClient.bootstrap(tmp_path / "metadata", fleet.files["metadata/1.root.json"])
    return TrustClient(
        tmp_path / "metadata",
        tmp_path / "targets",
        fleet,
        metadata_url=fleet.metadata_url,
        targets_url=fleet.targets_url,
        now=lambda: NOW,
    )


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    return tmp_path / "mirror"


def reader_of(mirror: Path, fleet: RepositorySimulator, *, now: datetime = NOW, name: str = "reader") -> TrustClient:
    """Another endpoint, or the installer, that has nothing but the mirror and the first root."""
    home = mirror.parent / name
    TrustClient.bootstrap(home / "metadata", fleet.files["metadata/1.root.json"])
    return TrustClient(
        home / "metadata",
        home / "targets",
        DirectoryFetcher(mirror),
        metadata_url=MIRROR_METADATA_URL,
        targets_url=MIRROR_TARGETS_URL,
        now=lambda: now,
    )


def read_all(client: TrustClient) -> None:
    client.refresh()
    client.policy()
    client.recalls()
    client.schedule("hq")
    client.segment_certificate("default")
    client.torrent(client.manifest("tool", "1.0"), "default")


def paths_in(mirror: Path) -> set[str]:
    return {str(path.relative_to(mirror)) for path in mirror.rglob("*") if path.is_file()}


class TestPublishing:
    def test_another_client_reads_everything_that_was_read_here(
        self, client: TrustClient, fleet: RepositorySimulator, mirror: Path
    ) -> None:
        fleet.publish("root")
        read_all(client)
        assert Mirror(mirror).publish(client)
        reader = reader_of(mirror, fleet)
        read_all(reader)
        assert reader.versions() == client.versions()
        assert reader.torrent(reader.manifest("tool", "1.0"), "default") == TORRENT

    def test_serves_the_very_files_of_the_origin(
        self, client: TrustClient, fleet: RepositorySimulator, mirror: Path
    ) -> None:
        read_all(client)
        Mirror(mirror).publish(client)
        mirrored = {path: (mirror / path).read_bytes() for path in paths_in(mirror)}
        assert mirrored == {path: fleet.files[path] for path in mirrored}
        assert "metadata/2.snapshot.json" in mirrored
        assert len([path for path in mirrored if path.startswith("targets/patches/tool/1.0/")]) == 2

    def test_again_without_news_writes_nothing(self, client: TrustClient, mirror: Path) -> None:
        read_all(client)
        Mirror(mirror).publish(client)
        before = {path: (mirror / path).stat().st_ino for path in paths_in(mirror)}
        client.refresh()
        client.policy()
        Mirror(mirror).publish(client)
        assert {path: (mirror / path).stat().st_ino for path in paths_in(mirror)} == before

    def test_brings_in_what_was_read_since(self, client: TrustClient, fleet: RepositorySimulator, mirror: Path) -> None:
        read_all(client)
        home = Mirror(mirror)
        home.publish(client)
        add_release(fleet, make_manifest("2.0", 2))
        fleet.release("patches")
        client.refresh()
        client.manifest("tool", "2.0")
        home.publish(client)
        reader = reader_of(mirror, fleet)
        reader.refresh()
        assert reader.manifest("tool", "2.0").manifest.release_counter == 2
        assert reader.manifest("tool", "1.0").manifest.release_counter == 1

    def test_mends_what_a_kill_kept_from_being_written(
        self, client: TrustClient, fleet: RepositorySimulator, mirror: Path
    ) -> None:
        """Killed between a refresh and its publication, the next refresh downloads nothing of what is missing."""
        read_all(client)
        Mirror(mirror).publish(client)
        fleet.add_target("policies", POLICY_TARGET, encode(make_policy(2)))
        fleet.release("policies")
        client.refresh()
        assert client.policy() == make_policy(2)
        fleet.requests.clear()
        client.refresh()
        assert client.policy() == make_policy(2)
        assert fleet.requests == ["metadata/2.root.json", "metadata/timestamp.json"]
        Mirror(mirror).publish(client)
        reader = reader_of(mirror, fleet)
        reader.refresh()
        assert reader.policy() == make_policy(2)

    def test_leaves_the_mirror_alone_when_a_later_refresh_failed_half_way(
        self, client: TrustClient, fleet: RepositorySimulator, mirror: Path
    ) -> None:
        read_all(client)
        home = Mirror(mirror)
        home.publish(client)
        before = paths_in(mirror)
        fleet.release("targets")
        withheld = fleet.files.pop(fleet.metadata_path("targets"))
        with pytest.raises(SourceUnavailable):
            client.refresh()
        assert not home.publish(client)
        assert paths_in(mirror) == before
        reader_of(mirror, fleet).refresh()
        fleet.files[fleet.metadata_path("targets")] = withheld
        client.refresh()
        assert home.publish(client)

    def test_needs_something_trusted(self, client: TrustClient, mirror: Path) -> None:
        with pytest.raises(SourceUnavailable):
            Mirror(mirror).publish(client)

    def test_keeps_names_that_would_leave_it_out(
        self, client: TrustClient, fleet: RepositorySimulator, mirror: Path
    ) -> None:
        for path in ("../../../escaped", "/escaped", "a//b", "x" * 250):
            fleet.add_target("targets", path, b"hostile")
        fleet.release("targets")
        client.refresh()
        for path in ("../../../escaped", "/escaped", "a//b", "x" * 250):
            client.read_target(path, max_bytes=100)
        Mirror(mirror).publish(client)
        assert sorted(path.name for path in mirror.parent.iterdir()) == ["metadata", "mirror", "targets"]
        assert not [path for path in paths_in(mirror) if path.startswith("targets/")]

    def test_of_a_repository_without_consistent_snapshots(
        self, client: TrustClient, fleet: RepositorySimulator, mirror: Path
    ) -> None:
        fleet.root.consistent_snapshot = False
        fleet.publish("root")
        for version in (2, 3):
            fleet.add_target("policies", POLICY_TARGET, encode(make_policy(version)))
            fleet.release("targets", "policies")
            client.refresh()
            client.policy()
            Mirror(mirror).publish(client)
            reader = reader_of(mirror, fleet)
            reader.refresh()
            assert reader.policy() == make_policy(version)
        assert "metadata/policies.json" in paths_in(mirror)
        assert f"targets/{POLICY_TARGET}" in paths_in(mirror)


class TestDeletingTheSuperseded:
    def test_waits_one_publication_for_readers_that_are_under_way(
        self, client: TrustClient, fleet: RepositorySimulator, mirror: Path
    ) -> None:
        home = Mirror(mirror)
        seen = []
        for minute in range(4):
            if minute:
                fleet.add_target("policies", POLICY_TARGET, encode(make_policy(minute + 1)))
                fleet.release("policies")
            read_all(client)
            home.publish(client)
            paths = paths_in(mirror)
            seen.append(
                (
                    len([path for path in paths if path.endswith(".policies.json")]),
                    len([path for path in paths if path.endswith(".snapshot.json")]),
                    len([path for path in paths if path.startswith("targets/policies/")]),
                )
            )
        assert seen == [(1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)]
        assert len([path for path in paths_in(mirror) if path.endswith(".patches.json")]) == 1

    def test_keeps_targets_of_roles_that_are_not_loaded(
        self, client: TrustClient, fleet: RepositorySimulator, mirror: Path
    ) -> None:
        read_all(client)
        home = Mirror(mirror)
        home.publish(client)
        for _ in range(3):
            fleet.release("policies")
            client.refresh()
            client.policy()
            home.publish(client)
        reader = reader_of(mirror, fleet)
        reader.refresh()
        assert reader.manifest("tool", "1.0").manifest == make_manifest()

    def test_drops_withdrawn_targets_and_empty_directories(
        self, client: TrustClient, fleet: RepositorySimulator, mirror: Path
    ) -> None:
        read_all(client)
        home = Mirror(mirror)
        home.publish(client)
        (mirror / "metadata" / ".left-by-a-kill.part").write_bytes(b"half")
        fleet.delegated["patches"].targets.clear()
        fleet.release("patches")
        for _ in range(2):
            client.refresh()
            with pytest.raises(NotListed):
                client.manifest("tool", "1.0")
            client.policy()
            client.recalls()
            client.schedule("hq")
            home.publish(client)
        assert not (mirror / "targets" / "patches").exists()
        assert not (mirror / "metadata" / ".left-by-a-kill.part").exists()

    def test_keeps_every_root(self, client: TrustClient, fleet: RepositorySimulator, mirror: Path) -> None:
        home = Mirror(mirror)
        for _ in range(4):
            fleet.publish("root")
            client.refresh()
            home.publish(client)
        reader = reader_of(mirror, fleet)
        reader.refresh()
        assert reader.versions()["root"] == 5


class TestStartingWithoutANetwork:
    def test_from_the_own_mirror(self, client: TrustClient, fleet: RepositorySimulator, mirror: Path) -> None:
        read_all(client)
        Mirror(mirror).publish(client)
        restarted = TrustClient(
            client.metadata_dir,
            mirror.parent / "targets",
            DirectoryFetcher(mirror),
            metadata_url=MIRROR_METADATA_URL,
            targets_url=MIRROR_TARGETS_URL,
            now=lambda: NOW,
        )
        read_all(restarted)
        assert restarted.versions() == client.versions()

    def test_says_when_the_mirror_has_expired(
        self, client: TrustClient, fleet: RepositorySimulator, mirror: Path
    ) -> None:
        read_all(client)
        Mirror(mirror).publish(client)
        with pytest.raises(Expired):
            reader_of(mirror, fleet, now=NOW + timedelta(days=31)).refresh()


def make_pipe(mirror: Path) -> None:
    os.mkfifo(mirror / "metadata" / "timestamp.json")


def make_link(mirror: Path) -> None:
    (mirror / "metadata" / "timestamp.json").symlink_to(mirror.parent / "secret")


def make_linked_directory(mirror: Path) -> None:
    (mirror / "metadata").rmdir()
    (mirror.parent / "elsewhere").mkdir()
    (mirror.parent / "elsewhere" / "timestamp.json").write_bytes(b"secret")
    (mirror / "metadata").symlink_to(mirror.parent / "elsewhere")


def make_directory(mirror: Path) -> None:
    (mirror / "metadata" / "timestamp.json").mkdir()


class TestReadingADirectory:
    @pytest.fixture(autouse=True)
    def _mirror(self, mirror: Path) -> None:
        (mirror / "metadata").mkdir(parents=True)
        (mirror.parent / "secret").write_bytes(b"secret")

    def test_gives_a_file_in_it(self, mirror: Path) -> None:
        (mirror / "metadata" / "1.root.json").write_bytes(b"root")
        assert DirectoryFetcher(mirror).download_bytes("mirror:metadata/1.root.json", 4) == b"root"

    def test_reads_no_more_than_is_asked_for(self, mirror: Path) -> None:
        (mirror / "metadata" / "1.root.json").write_bytes(b"root!")
        with pytest.raises(DownloadLengthMismatchError):
            DirectoryFetcher(mirror).download_bytes("mirror:metadata/1.root.json", 4)

    @pytest.mark.parametrize("url", ["mirror:metadata/2.root.json", "mirror:none/2.root.json", "mirror:metadata/x/y"])
    def test_what_is_missing_is_not_found(self, mirror: Path, url: str) -> None:
        (mirror / "metadata" / "x").write_bytes(b"a file, no directory")
        with pytest.raises(DownloadHTTPError) as answer:
            DirectoryFetcher(mirror).download_bytes(url, 10)
        assert answer.value.status_code == 404

    @pytest.mark.parametrize(
        "path",
        ["../secret", "metadata/../../secret", quote("../secret", ""), "", ".", "metadata//x", "/etc/passwd", "a\0b"],
    )
    def test_leads_nowhere_else(self, mirror: Path, path: str) -> None:
        with pytest.raises(DownloadError, match="names no file in a mirror"):
            DirectoryFetcher(mirror).download_bytes(f"mirror:{path}", 100)

    def test_serves_no_other_scheme(self, mirror: Path) -> None:
        with pytest.raises(DownloadError, match="names no file in a mirror"):
            DirectoryFetcher(mirror).download_bytes("https://origin/metadata/timestamp.json", 100)

    @pytest.mark.parametrize("trap", [make_pipe, make_link, make_linked_directory, make_directory])
    def test_follows_no_link_and_waits_for_no_pipe(self, mirror: Path, trap: Callable[[Path], None]) -> None:
        trap(mirror)
        with pytest.raises(DownloadError):
            DirectoryFetcher(mirror).download_bytes("mirror:metadata/timestamp.json", 100)
