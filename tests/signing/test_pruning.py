# SPDX-License-Identifier: Apache-2.0
"""What is cleared away, and what a client in the middle of a refresh still finds."""

from pathlib import Path

import pytest

from signing.pruning import ALWAYS_KEPT
from tests.signing.fleet import Client, Fleet, read

BATCH = 5


def names(fleet: Fleet, pattern: str) -> list[str]:
    return sorted(path.name for path in (fleet.directory / "metadata").glob(pattern))


def contents(fleet: Fleet) -> set[bytes]:
    return {path.read_bytes() for path in (fleet.directory / "targets").rglob("*") if path.is_file()}


def publish_schedules(fleet: Fleet, count: int) -> None:
    for number in range(count):
        fleet.put_online({"schedules/berlin": b"schedule %d" % number})


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signing.repository.BATCH", BATCH)


def test_what_nobody_can_be_reading_goes_and_roots_stay(fleet: Fleet, client: Client) -> None:
    fleet.release({"patches/p/1/manifest": b"withdrawn"})
    fleet.repository.stage("patches", {}, remove=["patches/p/1/manifest"], now=fleet.now)
    fleet.sign("patches")
    fleet.publish("patches")
    fleet.repository.stage("root", {}, now=fleet.now)
    fleet.sign("root")
    fleet.publish("root")
    publish_schedules(fleet, 10)
    fleet.wait(hours=2)
    publish_schedules(fleet, 1)
    fleet.wait(hours=2)
    fleet.repository.prune(now=fleet.now)
    assert len(names(fleet, "*.snapshot.json")) == 1 + ALWAYS_KEPT
    assert len(names(fleet, "*.schedules.json")) == 1 + ALWAYS_KEPT
    assert names(fleet, "*.patches.json") == ["3.patches.json"]
    assert names(fleet, "*.root.json") == ["1.root.json", "2.root.json"]
    assert b"withdrawn" not in contents(fleet)
    assert not (fleet.directory / "targets" / "patches").exists()
    assert client.read(fleet.now, "schedules/berlin") == b"schedule 0"
    assert client.read(fleet.now, "policies/fleet") == b"policy 1"


def test_a_client_in_the_middle_of_a_refresh_finds_its_edition_for_an_hour(fleet: Fleet, client: Client) -> None:
    fleet.put_online({"schedules/berlin": b"mine"})
    updater = client.refresh(fleet.now)
    for _ in range(3):
        fleet.wait(hours=0.25)
        publish_schedules(fleet, BATCH)
    fleet.repository.prune(now=fleet.now)
    assert read(updater, "schedules/berlin") == b"mine"


def test_publishing_prunes_by_itself_so_that_the_directory_stays_bounded(fleet: Fleet) -> None:
    for _ in range(BATCH + ALWAYS_KEPT + 10):
        fleet.wait(hours=2)
        publish_schedules(fleet, 1)
    assert ALWAYS_KEPT <= len(names(fleet, "*.snapshot.json")) <= BATCH + ALWAYS_KEPT + 1
    assert len(contents(fleet)) <= 3


def test_a_burst_is_bounded_too(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signing.pruning.MOST_KEPT", 6)
    publish_schedules(fleet, 20)
    fleet.repository.prune(now=fleet.now)
    assert len(names(fleet, "*.snapshot.json")) == 1 + 6


def test_pruning_again_removes_nothing_more(fleet: Fleet) -> None:
    publish_schedules(fleet, 10)
    fleet.wait(hours=2)
    fleet.repository.prune(now=fleet.now)
    before = set(fleet.directory.rglob("*"))
    fleet.repository.prune(now=fleet.now)
    assert set(fleet.directory.rglob("*")) == before


def test_a_content_that_comes_back_is_kept(fleet: Fleet, client: Client) -> None:
    for content in (b"a", b"b", b"a"):
        fleet.put_online({"schedules/berlin": content})
    publish_schedules(fleet, 10)
    fleet.put_online({"schedules/berlin": b"a"})
    fleet.wait(hours=2)
    fleet.repository.prune(now=fleet.now)
    assert client.read(fleet.now, "schedules/berlin") == b"a"


def test_what_is_pending_is_not_pruned(fleet: Fleet, client: Client, tmp_path: Path) -> None:
    fleet.repository.stage("patches", {"patches/p/1/manifest": b"waiting"}, now=fleet.now)
    publish_schedules(fleet, 10)
    fleet.wait(hours=2)
    fleet.repository.prune(now=fleet.now)
    fleet.sign("patches")
    fleet.publish("patches")
    assert client.read(fleet.now, "patches/p/1/manifest") == b"waiting"


def test_numbers_that_a_crash_left_taken_stay_taken(fleet: Fleet) -> None:
    metadata = fleet.directory / "metadata"
    for number in (8, 9):
        (metadata / f"{number}.schedules.json").write_bytes((metadata / "1.schedules.json").read_bytes())
    publish_schedules(fleet, 10)
    (metadata / "30.policies.json").write_bytes((metadata / "1.policies.json").read_bytes())
    fleet.wait(hours=2)
    fleet.repository.prune(now=fleet.now)
    assert names(fleet, "*.policies.json") == ["1.policies.json", "30.policies.json"]
    assert "8.schedules.json" not in names(fleet, "*.schedules.json")
    assert "19.schedules.json" in names(fleet, "*.schedules.json")
    fleet.release({"policies/fleet": b"policy 2"}, role="policies")
    assert names(fleet, "*.policies.json") == ["1.policies.json", "30.policies.json", "31.policies.json"]


def test_half_written_files_of_killed_writers_go(fleet: Fleet) -> None:
    fleet.repository.stage("policies", {"policies/fleet": b"policy 2"}, now=fleet.now)
    publish_schedules(fleet, 10)
    halves = [
        fleet.directory / place / ".x1y2z3.part"
        for place in ("metadata", "pending", "pending/targets/policies", "targets/schedules")
    ]
    for half in halves:
        half.write_bytes(b"half")
    fleet.wait(hours=2)
    fleet.repository.prune(now=fleet.now)
    assert [half for half in halves if half.exists()] == []
    assert fleet.repository.read_pending("policies", "policies/fleet") == b"policy 2"
