# SPDX-License-Identifier: Apache-2.0
"""Several writers at once: processes, threads, and one thread that enters again."""

import multiprocessing
import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner

from signing.directory_lock import DirectoryLock
from signing.repository import Repository
from tests.signing.fleet import EPOCH, Client, Fleet

PUBLICATIONS = 6


def publish_schedules(directory: Path, site: str, pems: dict[str, bytes]) -> None:
    """What each process does; its keys come as PEM, since signers do not travel between processes."""
    online: dict[str, Any] = {role: CryptoSigner(load_pem_private_key(pem, None)) for role, pem in pems.items()}
    repository = Repository(directory)
    for number in range(PUBLICATIONS):
        repository.put_online({f"schedules/{site}-{number}": site.encode()}, **online, now=EPOCH)


def test_two_processes_publish_at_once_and_nothing_is_lost(fleet: Fleet, client: Client) -> None:
    pems = {role: signer.private_bytes for role, signer in fleet.online("schedules", "snapshot", "timestamp").items()}
    spawn = multiprocessing.get_context("spawn")
    processes = [
        spawn.Process(target=publish_schedules, args=(fleet.directory, site, pems)) for site in ("berlin", "paris")
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
        process.close()
    expected = {f"schedules/{site}-{number}" for site in ("berlin", "paris") for number in range(PUBLICATIONS)}
    assert set(fleet.repository.target_paths("schedules")) == expected
    assert fleet.repository.timestamp_version() == 1 + 2 * PUBLICATIONS
    assert client.read(fleet.now, "schedules/paris-0") == b"paris"


def test_threads_share_one_repository(fleet: Fleet) -> None:
    threads = [
        threading.Thread(target=fleet.put_online, args=({f"schedules/site-{number}": b"schedule"},))
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(fleet.repository.target_paths("schedules")) == 4
    assert fleet.repository.timestamp_version() == 5


def test_the_holder_of_the_lock_may_publish_and_others_wait(fleet: Fleet) -> None:
    other = threading.Thread(
        target=lambda: Repository(fleet.directory).stage("policies", {"policies/fleet": b"policy 2"}, now=fleet.now)
    )
    with fleet.repository.lock():
        other.start()
        fleet.put_online({"schedules/berlin": b"schedule"})
        fleet.put_online({"schedules/berlin": b"later"})
        other.join(0.05)
        assert other.is_alive()
        assert not (fleet.directory / "pending" / "policies.json").exists()
    other.join(60)
    assert [pending.role for pending in fleet.repository.pending()] == ["policies"]


def test_readers_do_not_wait_for_writers(fleet: Fleet) -> None:
    reader = Repository(fleet.directory)
    with fleet.repository.lock():
        assert reader.timestamp_version() == 1
        assert reader.read_target("policies", "policies/fleet") == b"policy 1"
        assert reader.expiries() == fleet.repository.expiries()


def test_an_error_inside_releases_the_lock(tmp_path: Path) -> None:
    def fail_inside(lock: DirectoryLock) -> None:
        with lock.held() as outermost, lock.held() as inner:
            assert (outermost, inner) == (True, False)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_inside(DirectoryLock(tmp_path))
    with DirectoryLock(tmp_path).held() as outermost:
        assert outermost
