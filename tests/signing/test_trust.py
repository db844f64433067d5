# SPDX-License-Identifier: Apache-2.0
import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.ngclient import FetcherInterface

from signing import trust
from signing.codec import encode
from signing.errors import (
    BadInput,
    ContentMismatch,
    Expired,
    NotListed,
    NotSigned,
    RolledBack,
    SourceUnavailable,
)
from signing.policy import POLICY_TARGET
from signing.recall import RecallList
from signing.schedule import schedule_target
from signing.trust import TrustClient
from tests.signing.fleet_documents import (
    NOW,
    TORRENT,
    add_release,
    make_manifest,
    make_policy,
    make_schedule,
    serve_fleet,
)
from tests.signing.repository_simulator import RepositorySimulator


class Clock:
    def __init__(self) -> None:
        self.time = NOW

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fleet() -> RepositorySimulator:
    return serve_fleet()


@pytest.fixture
def client(fleet: RepositorySimulator, tmp_path: Path, clock: Clock) -> TrustClient:
    TrustClient.bootstrap(tmp_path / "metadata", fleet.files["metadata/1.root.json"])
    return open_client(fleet, tmp_path, clock)


def open_client(fetcher: FetcherInterface, directory: Path, clock: Clock) -> TrustClient:
    return TrustClient(
        directory / "metadata",
        directory / "targets",
        fetcher,
        metadata_url=RepositorySimulator.metadata_url,
        targets_url=RepositorySimulator.targets_url,
        now=clock,
    )


def test_one_of_each_document_is_read_and_verified(client: TrustClient) -> None:
    client.refresh()
    manifest = client.manifest("tool", "1.0")
    assert manifest.manifest == make_manifest()
    assert manifest.data == encode(make_manifest())
    assert client.policy() == make_policy()
    assert client.schedule("hq") == make_schedule()
    assert client.recalls() == RecallList(version=1)
    assert client.torrent(manifest, "default") == TORRENT
    assert client.segment_certificate("default") == b"-----BEGIN CERTIFICATE-----"


def test_versions_and_expiries_tell_of_loaded_roles(client: TrustClient, fleet: RepositorySimulator) -> None:
    client.refresh()
    client.policy()
    assert client.versions() == {"root": 1, "timestamp": 2, "snapshot": 2, "targets": 2, "policies": 1} | {
        role: 1 for role in ("patches", "recalls", "schedules") if role in client.versions()
    }
    assert client.expiries()["timestamp"] == fleet.expires


def test_a_second_refresh_sees_what_was_published_since(client: TrustClient, fleet: RepositorySimulator) -> None:
    client.refresh()
    with pytest.raises(NotListed):
        client.manifest("tool", "2.0")
    add_release(fleet, make_manifest("2.0", 2))
    fleet.release("patches")
    with pytest.raises(NotListed):
        client.manifest("tool", "2.0")  # one consistent snapshot until the next refresh
    client.refresh()
    assert client.manifest("tool", "2.0").manifest.release_counter == 2


def test_a_refresh_without_news_asks_for_the_next_root_and_the_timestamp_only(
    client: TrustClient, fleet: RepositorySimulator
) -> None:
    client.refresh()
    fleet.requests.clear()
    client.refresh()
    assert fleet.requests == ["metadata/2.root.json", "metadata/timestamp.json"]


class TestReading:
    def test_needs_a_refresh_first(self, client: TrustClient) -> None:
        with pytest.raises(SourceUnavailable, match="a refresh must succeed first"):
            client.policy()

    def test_takes_a_cached_file_without_fetching_it_again(
        self, client: TrustClient, fleet: RepositorySimulator, tmp_path: Path, clock: Clock
    ) -> None:
        client.refresh()
        client.policy()
        restarted = open_client(fleet, tmp_path, clock)
        restarted.refresh()
        fleet.requests.clear()
        assert restarted.policy() == make_policy()
        assert not [path for path in fleet.requests if path.startswith("targets/")]

    def test_fetches_a_cached_file_again_when_somebody_changed_it(self, client: TrustClient, tmp_path: Path) -> None:
        client.refresh()
        client.policy()
        (cached,) = (tmp_path / "targets").iterdir()
        cached.write_bytes(b"x" * cached.stat().st_size)
        assert client.policy() == make_policy()

    def test_refuses_a_target_larger_than_the_caller_reads_before_fetching_it(
        self, client: TrustClient, fleet: RepositorySimulator
    ) -> None:
        client.refresh()
        with pytest.raises(BadInput, match="at most 10 are read"):
            client.read_target(POLICY_TARGET, max_bytes=10)
        assert not [path for path in fleet.requests if path.startswith("targets/")]

    def test_refuses_names_that_no_release_can_have(self, client: TrustClient) -> None:
        client.refresh()
        for product, version in (("../trust", "1"), ("tool", "../../default.pem"), ("Tool", "1")):
            with pytest.raises(BadInput):
                client.manifest(product, version)
        with pytest.raises(BadInput):
            client.schedule("../hq")
        with pytest.raises(BadInput):
            client.segment_certificate("a/b")

    def test_refuses_the_manifest_of_another_release(self, client: TrustClient, fleet: RepositorySimulator) -> None:
        fleet.add_target("patches", "patches/tool/9.9/manifest", encode(make_manifest("1.0")))
        fleet.release("patches")
        client.refresh()
        with pytest.raises(ContentMismatch, match=r"that of tool 1\.0"):
            client.manifest("tool", "9.9")

    def test_refuses_the_schedule_of_another_site(self, client: TrustClient, fleet: RepositorySimulator) -> None:
        fleet.add_target("schedules", schedule_target("branch"), encode(make_schedule("hq")))
        fleet.release("schedules")
        client.refresh()
        with pytest.raises(ContentMismatch, match="site hq"):
            client.schedule("branch")

    def test_says_when_a_release_is_not_for_the_segment(self, client: TrustClient) -> None:
        client.refresh()
        with pytest.raises(NotListed, match="no torrent for segment 'lab'"):
            client.torrent(client.manifest("tool", "1.0"), "lab")

    def test_names_the_role_that_has_expired_since_the_refresh(self, client: TrustClient, clock: Clock) -> None:
        client.refresh()
        client.check_fresh()
        clock.time += timedelta(days=31)
        assert client.policy() == make_policy()  # what was verified stays readable …
        with pytest.raises(Expired, match=r"root: expired on 2030-01-31"):
            client.check_fresh()  # … but nothing new may be installed on its word


class TestDownloading:
    def test_keeps_the_quoted_path_as_the_file_name(self, client: TrustClient, tmp_path: Path) -> None:
        client.refresh()
        file = client.download(POLICY_TARGET, tmp_path / "here")
        assert file == tmp_path / "here" / "policies%2Ffleet"
        assert file.read_bytes() == encode(make_policy())
        assert names(tmp_path / "here") == [file.name]

    def test_does_not_fetch_what_is_there(
        self, client: TrustClient, fleet: RepositorySimulator, tmp_path: Path
    ) -> None:
        client.refresh()
        client.download(POLICY_TARGET, tmp_path)
        fleet.requests.clear()
        client.download(POLICY_TARGET, tmp_path)
        assert fleet.requests == []

    def test_leaves_the_old_file_when_the_new_one_fails(
        self, client: TrustClient, fleet: RepositorySimulator, tmp_path: Path
    ) -> None:
        client.refresh()
        file = client.download(POLICY_TARGET, tmp_path / "here")
        target = fleet.add_target("policies", POLICY_TARGET, encode(make_policy(2)))
        fleet.release("policies")
        fleet.files[f"targets/{target.get_prefixed_paths()[0]}"] = encode(make_policy(3))
        client.refresh()
        with pytest.raises(ContentMismatch):
            client.download(POLICY_TARGET, tmp_path / "here")
        assert file.read_bytes() == encode(make_policy(1))
        assert names(tmp_path / "here") == [file.name]


class TestBootstrapping:
    def test_refuses_what_is_no_root(self, tmp_path: Path, fleet: RepositorySimulator) -> None:
        for data in (b"", b"{}", b"[" * 100_000, fleet.files["metadata/timestamp.json"], b" " * 600_000):
            with pytest.raises(BadInput):
                TrustClient.bootstrap(tmp_path / "other", data)
            assert names(tmp_path / "other") == []

    def test_refuses_a_root_that_its_own_keys_have_not_signed(self, tmp_path: Path, fleet: RepositorySimulator) -> None:
        root = json.loads(fleet.files["metadata/1.root.json"])
        root["signed"]["expires"] = "2099-01-01T00:00:00Z"
        with pytest.raises(NotSigned):
            TrustClient.bootstrap(tmp_path, json.dumps(root).encode())
        assert names(tmp_path) == []

    def test_again_with_the_same_root_changes_nothing(self, client: TrustClient, fleet: RepositorySimulator) -> None:
        fleet.publish("root")
        client.refresh()
        TrustClient.bootstrap(client.metadata_dir, fleet.files["metadata/1.root.json"])
        fleet.requests.clear()
        client.refresh()
        assert fleet.requests[0] == "metadata/3.root.json"

    def test_refuses_another_root_where_one_is_trusted(self, client: TrustClient) -> None:
        with pytest.raises(BadInput, match="already trusts another root"):
            TrustClient.bootstrap(client.metadata_dir, RepositorySimulator(NOW).files["metadata/1.root.json"])

    def test_a_client_without_a_root_says_how_to_get_one(
        self, fleet: RepositorySimulator, tmp_path: Path, clock: Clock
    ) -> None:
        with pytest.raises(BadInput, match="p2pd trust init"):
            open_client(fleet, tmp_path, clock).refresh()
        assert fleet.requests == []

    def test_metadata_lies_under_unversioned_names_and_nothing_else_does(self, client: TrustClient) -> None:
        assert visible(client) == ["root.json"]
        client.refresh()
        assert visible(client) == ["root.json", "snapshot.json", "targets.json", "timestamp.json"]


class TestSurviving:
    def test_a_kill_while_the_updater_replaces_its_root(self, client: TrustClient, fleet: RepositorySimulator) -> None:
        client.refresh()
        (client.metadata_dir / "root.json").unlink()
        client.refresh()
        assert (client.metadata_dir / "root.json").read_bytes() == fleet.files["metadata/1.root.json"]

    def test_a_power_cut_that_empties_the_root_history(self, client: TrustClient, fleet: RepositorySimulator) -> None:
        """An attacker with a retired root key must not be believed because our files were lost."""
        retired = fleet.signers["root"]
        current = [CryptoSigner.generate_ed25519()]
        fleet.set_keys("root", current)
        fleet.signers["root"] = [*retired, *current]
        fleet.publish("root")
        client.refresh()
        for file in (client.metadata_dir / "root_history").iterdir():
            file.write_bytes(b"")
        forged = RepositorySimulator(NOW)
        forged.signers["root"] = retired
        forged.set_keys("root", retired)
        forged.publish("root")
        fleet.files["metadata/2.root.json"] = forged.files["metadata/2.root.json"]
        client.refresh()
        assert (client.metadata_dir / "root.json").read_bytes() != fleet.files["metadata/2.root.json"]
        assert client.versions()["root"] == 2

    def test_emptied_top_level_files(self, client: TrustClient) -> None:
        client.refresh()
        for role in ("timestamp", "snapshot", "targets"):
            (client.metadata_dir / f"{role}.json").write_bytes(b"")
        client.refresh()
        assert client.policy() == make_policy()

    def test_roots_verified_before_a_failure_stay_trusted(
        self, client: TrustClient, fleet: RepositorySimulator, tmp_path: Path, clock: Clock
    ) -> None:
        fleet.publish("root")
        fleet.publish("root")
        del fleet.files["metadata/timestamp.json"]
        with pytest.raises(SourceUnavailable):
            client.refresh()
        fleet.requests.clear()
        with pytest.raises(SourceUnavailable):
            open_client(fleet, tmp_path, clock).refresh()
        assert fleet.requests[0] == "metadata/4.root.json"

    def test_more_root_rotations_than_one_refresh_follows(
        self, client: TrustClient, fleet: RepositorySimulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(trust, "MAX_ROOT_ROTATIONS", 3)
        for _ in range(8):
            fleet.publish("root")
        reached = []
        for _ in range(3):
            client.refresh()
            reached.append(client.versions()["root"])
        assert reached == [4, 7, 9]

    def test_a_failed_refresh_takes_nothing_away(self, client: TrustClient, fleet: RepositorySimulator) -> None:
        client.refresh()
        good = client.versions()
        fleet.add_target("policies", POLICY_TARGET, encode(make_policy(2)))
        fleet.release("targets", "policies")
        del fleet.files[fleet.metadata_path("targets")]  # the timestamp and snapshot arrive, the targets do not
        with pytest.raises(SourceUnavailable):
            client.refresh()
        assert client.versions() == good
        assert client.policy() == make_policy(1)

    def test_a_source_that_is_behind_the_last_one(
        self, client: TrustClient, fleet: RepositorySimulator, tmp_path: Path, clock: Clock
    ) -> None:
        old = dict(fleet.files)
        fleet.release("policies")
        client.refresh()
        peer = RepositorySimulator(NOW)
        peer.files = old
        with pytest.raises(RolledBack):
            open_client(peer, tmp_path, clock).refresh()
        client.refresh()


class TestPruningTheCache:
    def test_drops_what_is_listed_no_more(
        self, client: TrustClient, fleet: RepositorySimulator, tmp_path: Path
    ) -> None:
        client.refresh()
        client.manifest("tool", "1.0")
        client.policy()
        (tmp_path / "targets" / ".left-by-a-kill.part").write_bytes(b"half")
        fleet.delegated["patches"].targets.clear()
        fleet.release("patches")
        client.refresh()
        client.prune_cache()
        assert len(names(tmp_path / "targets")) == 3  # `patches` is not loaded: nothing is known of its targets
        for path in (POLICY_TARGET, "recalls/list", "schedules/hq", "patches/tool/1.0/none"):
            try:
                client.read_target(path, max_bytes=1_000)
            except NotListed:
                assert path == "patches/tool/1.0/none"
        client.prune_cache()
        assert names(tmp_path / "targets") == ["policies%2Ffleet", "recalls%2Flist", "schedules%2Fhq"]


def visible(client: TrustClient) -> list[str]:
    return sorted(file.name for file in client.metadata_dir.iterdir() if file.suffix == ".json")


def names(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())
