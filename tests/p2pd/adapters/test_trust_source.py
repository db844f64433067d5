# SPDX-License-Identifier: Apache-2.0
"""What one broken document takes away, and what it does not: recalls arrive whatever else is wrong."""

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from p2pd.ports_control import FromDisk, FromOrigin, StorageFailed
from signing.codec import encode
from signing.errors import BadInput, NotListed, SourceUnavailable
from signing.manifest import manifest_target, torrent_target
from signing.many_targets import ManyAtOnceFetcher
from signing.mirror import Mirror
from signing.policy import POLICY_TARGET
from signing.reasons import Reason
from signing.schedule import schedule_target
from signing.trust import TrustClient, VerifiedManifest
from tests.p2pd.adapters.trust_scene import ALL, RELEASES, Origin, Scene, digest, names
from tests.signing.fleet_documents import TORRENT, add_release, make_manifest, make_policy
from tests.signing.repository_simulator import RepositorySimulator


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


async def test_all_is_well(scene: Scene) -> None:
    trusted = await scene.refresh()
    assert names(trusted) == ALL
    assert trusted.general_problem is None
    assert trusted.problems == ()
    assert await scene.source.torrent(trusted.manifests[0]) == TORRENT
    assert await scene.restarted().refresh(FromDisk()) == trusted


@pytest.mark.parametrize("role", ["policies", "schedules", "patches"])
async def test_recalls_arrive_though_a_role_has_expired(scene: Scene, role: str) -> None:
    before = await scene.refresh()
    scene.spoil(role)
    scene.recall(RELEASES[0])
    after = await scene.refresh()
    assert after.recalls.withdraws(digest(RELEASES[0]))
    assert after.timestamp_version > before.timestamp_version
    assert after.general_problem is not None
    assert after.general_problem.reason is Reason.METADATA_EXPIRED
    assert (after.policy, after.schedule, after.manifests) == (before.policy, before.schedule, before.manifests)


@pytest.mark.parametrize("role", ["policies", "schedules"])
async def test_the_last_good_value_outlives_the_process(scene: Scene, role: str) -> None:
    before = await scene.refresh()
    scene.spoil(role)
    scene.recall(RELEASES[0])
    scene.source = scene.restarted()
    after = await scene.refresh()
    assert after.recalls.withdraws(digest(RELEASES[0]))
    assert after.general_problem is not None
    assert (after.policy, after.schedule) == (before.policy, before.schedule)


async def test_documents_of_a_newer_major_version_take_nothing_away(scene: Scene) -> None:
    before = await scene.refresh()
    scene.fleet.add_target("policies", POLICY_TARGET, b"\x93\x01\x02\x03")
    scene.fleet.add_target("schedules", schedule_target("hq"), b"\x93\x01\x02\x03")
    scene.fleet.release("policies", "schedules")
    scene.recall(RELEASES[0])
    for source in (scene.source, scene.restarted()):
        after = await source.refresh(FromOrigin())
        assert after.recalls.withdraws(digest(RELEASES[0]))
        assert (after.policy, after.schedule) == (before.policy, before.schedule)
        assert after.general_problem is not None
        assert after.general_problem.reason is Reason.DOCUMENT_MALFORMED
        assert after.general_problem.detail.startswith("policy: ")


async def test_a_missing_certificate_stops_installs_alone(scene: Scene) -> None:
    before = await scene.refresh()
    scene.fleet.add_target("targets", "trust/default.pem", b"a renewed certificate")
    scene.fleet.release("targets")
    scene.lose("default.pem")
    scene.recall(RELEASES[0])
    after = await scene.refresh()
    assert after.recalls.withdraws(digest(RELEASES[0]))
    assert after.segment_ca_pem == before.segment_ca_pem
    assert after.general_problem is not None
    assert after.general_problem.reason is Reason.METADATA_UNREACHABLE


async def test_another_products_missing_torrent_is_its_own_problem(scene: Scene) -> None:
    scene.lose("manifest", "torrent")
    add_release(scene.fleet, RELEASES[2])
    scene.fleet.release("patches")
    scene.recall(RELEASES[2])
    trusted = await scene.refresh()
    assert trusted.recalls.withdraws(digest(RELEASES[2]))
    assert trusted.general_problem is None
    assert names(trusted) == [("other", "1.0")]
    assert [(problem.product, problem.version) for problem in trusted.problems] == [("tool", "1.0"), ("tool", "2.0")]
    assert {problem.reason for problem in trusted.problems} == {Reason.METADATA_UNREACHABLE}
    assert trusted.problems[1].manifest_sha256 == digest(RELEASES[1])
    assert "2.0" in trusted.problems[1].detail


async def test_a_manifest_that_the_schedule_does_not_name_is_left_out(scene: Scene) -> None:
    before = await scene.refresh()
    changed = make_manifest("2.0", 3)
    add_release(scene.fleet, changed)
    scene.fleet.release("patches")
    after = await scene.refresh()
    assert names(before) == ALL
    assert names(after) == [ALL[0], ALL[2]]
    assert [problem.reason for problem in after.problems] == [Reason.DOCUMENT_MALFORMED]


async def test_a_withdrawn_release_is_left_out(scene: Scene) -> None:
    await scene.refresh()
    del scene.fleet.delegated["patches"].targets[manifest_target("tool", "2.0")]
    scene.fleet.release("patches")
    assert names(await scene.refresh()) == [ALL[0], ALL[2]]


async def test_a_torrent_that_went_missing_drops_no_manifest_that_was_verified(scene: Scene) -> None:
    before = await scene.refresh()
    scene.fleet.add_target("patches", torrent_target("tool", "2.0", "default"), TORRENT + b"2")
    scene.fleet.release("patches")
    scene.fleet.refused = dict.fromkeys((path for path in scene.fleet.files if path.endswith("torrent")), 503)
    after = await scene.refresh()
    assert after.manifests == before.manifests
    assert [problem.version for problem in after.problems] == ["2.0"]
    assert after.general_problem is None


async def test_a_source_that_goes_away_is_not_asked_for_every_file(scene: Scene) -> None:
    before = await scene.refresh()
    for release in RELEASES:
        scene.fleet.add_target("patches", torrent_target(release.product, release.version, "default"), TORRENT + b"2")
    scene.fleet.add_target("policies", POLICY_TARGET, encode(make_policy(version=2)))
    scene.fleet.release("patches", "policies")
    scene.recall(RELEASES[0])
    scene.origin.asked, scene.origin.answers_left = 0, 6  # two roots, timestamp, snapshot; recalls and their list
    after = await scene.refresh()
    assert after.recalls.withdraws(digest(RELEASES[0]))
    assert after.policy == before.policy
    assert after.manifests == before.manifests
    assert after.general_problem is not None
    assert after.general_problem.reason is Reason.METADATA_UNREACHABLE
    assert scene.origin.asked <= 7
    scene.origin.answers_left = None
    assert (await scene.refresh()).policy.version == 2


async def test_torrents_are_asked_for_again_after_the_source_was_away(scene: Scene) -> None:
    await scene.refresh()
    scene.fleet.add_target("patches", torrent_target("tool", "2.0", "default"), TORRENT + b"2")
    scene.fleet.release("patches")
    scene.origin.answers_left = 4
    trusted = await scene.refresh()
    with pytest.raises(SourceUnavailable):
        await scene.source.torrent(trusted.manifests[1])
    scene.origin.answers_left = None
    assert await scene.source.torrent(trusted.manifests[1]) == TORRENT + b"2"


async def test_the_first_view_ever_must_have_what_the_fleet_goes_by(scene: Scene) -> None:
    scene.fleet.add_target("policies", POLICY_TARGET, b"\x93\x01\x02\x03")
    scene.fleet.release("policies")
    with pytest.raises(BadInput):
        await scene.refresh()
    del scene.fleet.delegated["policies"].targets[POLICY_TARGET]
    scene.fleet.release("policies")
    with pytest.raises(NotListed):
        await scene.refresh()


async def test_without_recalls_there_is_no_view(scene: Scene) -> None:
    await scene.refresh()
    scene.recall(RELEASES[0])
    scene.lose(".list")
    with pytest.raises(SourceUnavailable):
        await scene.refresh()


def full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_full_disk_is_no_bug_of_ours(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrustClient, "refresh", full)
    with pytest.raises(StorageFailed) as failed:
        await scene.refresh()
    assert failed.value.reason is Reason.DISK_FULL


async def test_recalls_are_honoured_on_a_disk_that_is_full_of_all_the_rest(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.refresh()
    scene.recall(RELEASES[0])
    with monkeypatch.context() as patch:
        patch.setattr(Mirror, "publish", full)
        patch.setattr("p2pd.adapters.patient_reading.write_atomically", full)
        trusted = await scene.refresh()
    assert trusted.recalls.withdraws(digest(RELEASES[0]))
    assert trusted.general_problem is not None
    assert trusted.general_problem.reason is Reason.DISK_FULL
    assert (await scene.refresh()).general_problem is None


class GenerousOrigin(Origin, ManyAtOnceFetcher):
    """Gives many targets at once, two at most, and what a test puts in the place of one."""

    def __init__(self, fleet: RepositorySimulator) -> None:
        super().__init__(fleet)
        self.asked_together: list[list[str]] = []
        self.instead: dict[int, bytes] = {}

    def fetch_many(self, targets_url: str, names: Sequence[str]) -> list[bytes]:
        self.asked_together.append(list(names))
        contents = [self._fleet.files[f"targets/{name}"] for name in names[:2]]
        return [self.instead.get(place, content) for place, content in enumerate(contents)]


@pytest.mark.parametrize("instead", [{}, {0: b""}, {0: b"forged", 1: b"too"}])
async def test_manifests_come_together_and_only_what_was_signed_counts(
    tmp_path: Path, instead: dict[int, bytes]
) -> None:
    scene = Scene(tmp_path)
    alone = scene.origin.asked
    await scene.refresh()
    one_by_one = scene.origin.asked - alone

    (tmp_path / "other").mkdir()
    scene = Scene(tmp_path / "other")
    generous = scene.origin = GenerousOrigin(scene.fleet)
    generous.instead = instead
    trusted = await scene.restarted().refresh(FromOrigin())
    assert {manifest.manifest for manifest in trusted.manifests} == set(RELEASES)
    assert [len(names) for names in generous.asked_together] == [3]
    assert generous.asked == one_by_one - 2 + len(instead)


async def test_manifests_that_are_known_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But those that lie here no more are fetched, and one that is signed anew is read."""
    scene = Scene(tmp_path)
    before = await scene.refresh()
    read: list[str] = []
    manifest = TrustClient.manifest

    def reading(client: TrustClient, product: str, version: str) -> VerifiedManifest:
        read.append(f"{product} {version}")
        return manifest(client, product, version)

    monkeypatch.setattr(TrustClient, "manifest", reading)
    assert (await scene.refresh()).manifests == before.manifests
    assert read == []
    gone = next(
        file for file in (tmp_path / "trust" / "targets").iterdir() if "other" in file.name and "manifest" in file.name
    )
    gone.unlink()
    assert (await scene.refresh()).manifests == before.manifests
    assert read == ["other 1.0"]
    assert gone.is_file()
