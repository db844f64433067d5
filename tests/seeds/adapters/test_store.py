# SPDX-License-Identifier: Apache-2.0
"""The store keeps what it was told through closing and opening, and refuses files that are not its own."""

import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from seeds.adapters import store as store_module
from seeds.adapters.store import Store, StoreUnavailable
from seeds.records import AuditEvent, Measurement, Resumption, Rollout, RolloutState, Said
from signing.errors import BadInput
from signing.reasons import Reason
from signing.report import InstallState, Measured
from signing.schedule import Draft
from tests.seeds.fleet_kit import Endpoint, token

ROLLOUT = Rollout(
    manifest_sha256="b" * 64,
    product="tzdata",
    version="2025.2",
    release_counter=2**53 - 1,
    segments=("lab", "office"),
    state=RolloutState.HALTED,
    open_rings=2,
    drafted=(Draft(device="pc-1", ring=0),),
    passed_since=1_800_000_000.25,
    reason=Reason.ERROR_GATE,
    sentence="1 of 1 failed",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "coordinator.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path) as opened:
        yield opened


def test_everything_survives_closing(path: Path) -> None:
    device, spent = Endpoint("pc-1").as_record(), token(device="pc-1")
    event = AuditEvent(time=5, who="alice", what="token issued", subject="site paris", reason=Reason.BUSY, detail="x")
    with Store(path) as store, store.writing() as transaction:
        transaction.put_device(device)
        transaction.put_token(spent)
        transaction.put_rollout(ROLLOUT)
        transaction.add_audit(event)
    with Store(path) as store, store.reading() as transaction:
        assert transaction.devices() == (device,)
        assert transaction.device("pc-2") is None
        assert transaction.token("a" * 64) == spent
        assert transaction.rollouts() == (ROLLOUT,)
        assert transaction.audit_of("site paris") == (event,)


def test_a_raise_undoes_the_whole_block(store: Store) -> None:
    def write_and_raise() -> None:
        with store.writing() as transaction:
            transaction.put_token(token())
            raise KeyError

    with pytest.raises(KeyError):
        write_and_raise()
    with store.reading() as transaction:
        assert transaction.token("a" * 64) is None


def test_putting_again_replaces(store: Store) -> None:
    with store.writing() as transaction:
        transaction.put_rollout(ROLLOUT)
        transaction.put_rollout(replace(ROLLOUT, state=RolloutState.WITHDRAWN, reason=None, passed_since=None))
        (found,) = transaction.rollouts()
    assert (found.state, found.reason, found.passed_since) == (RolloutState.WITHDRAWN, None, None)


def test_a_report_is_kept_once_and_only_the_newest_is_the_state(store: Store) -> None:
    endpoint = Endpoint("pc-1")
    reports = [endpoint.report(state) for state in (InstallState.FETCHING, InstallState.PROBATION)]
    with store.writing() as transaction:
        transaction.put_device(endpoint.as_record())
        for report in reversed(reports):  # the later one arrives first
            transaction.add_report(report, enrolment=1, envelope=f"envelope {report.sequence}".encode(), received_at=9)
        assert transaction.envelope("pc-1", 1, 1) == b"envelope 1"
        assert transaction.envelope("pc-1", 2, 1) is None
        assert transaction.said(["0" * 64, "f" * 64]) == {
            "0" * 64: {"pc-1": Said(state=InstallState.PROBATION)},
            "f" * 64: {},
        }
        (release,) = transaction.releases_of("pc-1")
        assert transaction.device_releases() == (release,)
    assert (release.sequence, release.state) == (2, InstallState.PROBATION)
    with pytest.raises(IntegrityError), store.writing() as transaction:
        transaction.add_report(reports[0], enrolment=1, envelope=b"", received_at=9)


def test_a_report_of_an_unknown_device_breaks_a_constraint(store: Store) -> None:
    report = Endpoint("ghost").report(InstallState.FETCHING)
    with pytest.raises(IntegrityError), store.writing() as transaction:
        transaction.add_report(report, enrolment=1, envelope=b"", received_at=9)


def test_forgotten_releases_are_no_evidence(store: Store) -> None:
    endpoint = Endpoint("pc-1")
    with store.writing() as transaction:
        transaction.put_device(endpoint.as_record())
        report = endpoint.report(InstallState.COMMITTED)
        transaction.add_report(report, enrolment=1, envelope=b"kept", received_at=9)
        transaction.forget_releases("pc-1")
        assert transaction.said(["0" * 64]) == {"0" * 64: {}}
        assert transaction.envelope("pc-1", 1, 1) == b"kept"  # auditors still find it


def test_what_a_short_transfer_did_not_show_stays_as_it_was_measured(store: Store) -> None:
    endpoint = Endpoint("pc-1")
    long = Measured(wan_bytes_per_s=5.0, lan_in_bytes_per_s=7.0, origin_round_trip=0.25)
    with store.writing() as transaction:
        transaction.put_device(endpoint.as_record())
        for at, measured in enumerate((long, Measured(lan_in_bytes_per_s=8.0), None)):
            report = replace(endpoint.report(InstallState.STAGED), measured=measured)
            transaction.add_report(report, enrolment=1, envelope=b"", received_at=at)
        expected = Measured(wan_bytes_per_s=5.0, lan_in_bytes_per_s=8.0, origin_round_trip=0.25)
        assert transaction.measurements() == (Measurement(device="pc-1", time=1, measured=expected),)
        transaction.forget_releases("pc-1")  # another key may say something else
        assert transaction.measurements() == ()


def test_what_was_forgiven_stays_so_until_the_device_tries_again(store: Store) -> None:
    endpoint = Endpoint("pc-1")
    with store.writing() as transaction:
        transaction.put_device(endpoint.as_record())

        def forgiven_after(state: InstallState) -> bool:
            transaction.add_report(endpoint.report(state), enrolment=1, envelope=b"", received_at=9)
            return transaction.said(["0" * 64])["0" * 64]["pc-1"].forgiven

        assert not forgiven_after(InstallState.ROLLING_BACK)
        transaction.forgive("0" * 64, ["pc-1", "pc-2"])
        assert transaction.releases_of("pc-1")[0].forgiven
        assert forgiven_after(InstallState.ROLLED_BACK)  # the end of what was forgiven
        assert not forgiven_after(InstallState.FETCHING)
        assert not forgiven_after(InstallState.FAILED)


def test_forgiveness_is_for_one_release(store: Store) -> None:
    endpoint = Endpoint("pc-1")
    with store.writing() as transaction:
        transaction.put_device(endpoint.as_record())
        for manifest in ("0" * 64, "f" * 64):
            report = endpoint.report(InstallState.FAILED, manifest_sha256=manifest)
            transaction.add_report(report, enrolment=1, envelope=b"", received_at=9)
        transaction.forgive("0" * 64, ["pc-1"])
        said = transaction.said(["0" * 64, "f" * 64])
    assert [words["pc-1"].forgiven for words in said.values()] == [True, False]


def test_wishes_are_kept_until_they_are_seen_to(path: Path, store: Store) -> None:
    with store.writing() as transaction:
        transaction.put_rollout(ROLLOUT)
        transaction.ask_resumption(ROLLOUT.manifest_sha256)
        (first,) = transaction.resumptions()
        transaction.ask_resumption(ROLLOUT.manifest_sha256)
        transaction.drop_resumption(first)
    with Store(path) as again, again.reading() as transaction:
        (second,) = transaction.resumptions()
    assert second.manifest_sha256 == ROLLOUT.manifest_sha256
    assert isinstance(second, Resumption)
    assert second.id != first.id


def test_a_removed_device_is_gone_but_its_envelopes_and_its_count_of_enrolments_stay(store: Store) -> None:
    endpoint = Endpoint("pc-1")
    with store.writing() as transaction:
        transaction.put_device(endpoint.as_record(enrolment=3))
        report = endpoint.report(InstallState.COMMITTED)
        transaction.add_report(report, enrolment=3, envelope=b"kept", received_at=9)
        transaction.remove_device("pc-1", at=10)
        assert transaction.device("pc-1") is None
        assert transaction.devices() == ()
        assert transaction.count_site("paris") == 0
        assert transaction.device_releases() == ()
        assert transaction.envelope("pc-1", 3, 1) == b"kept"
        assert (transaction.last_enrolment("pc-1"), transaction.last_enrolment("pc-2")) == (3, 0)
        back = endpoint.as_record(enrolment=4)
        transaction.put_device(back)
        assert transaction.device("pc-1") == back


def test_a_site_is_counted_and_old_tokens_are_dropped(store: Store) -> None:
    with store.writing() as transaction:
        transaction.put_device(Endpoint("pc-1").as_record(site="paris"))
        transaction.put_device(Endpoint("pc-2").as_record(site="rome"))
        transaction.put_token(token(expires_at=10))
        assert transaction.count_site("paris") == 1
        assert transaction.drop_tokens_expired_before(10) == 0
        assert transaction.drop_tokens_expired_before(11) == 1


def test_a_token_cannot_be_overspent(store: Store) -> None:
    with pytest.raises(IntegrityError), store.writing() as transaction:
        transaction.put_token(token(uses_left=-1))


def test_writers_of_two_processes_wait_for_each_other(path: Path, store: Store) -> None:
    with Store(path) as other:
        written = threading.Event()

        def write() -> None:
            with other.writing() as transaction:
                transaction.put_token(token("c" * 64))
            written.set()

        with store.writing() as transaction:
            thread = threading.Thread(target=write)
            thread.start()
            assert not written.wait(0.05)  # it is held up by the lock
            transaction.put_token(token())
        thread.join(10)
        with store.reading() as transaction:
            assert transaction.token("a" * 64)
            assert transaction.token("c" * 64)


def test_a_lock_that_stays_is_an_outage_not_a_crash(path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "BUSY_TIMEOUT_SECONDS", 0.01)
    with Store(path) as impatient, store.writing():
        with pytest.raises(StoreUnavailable, match="locked"), impatient.writing():
            pass
        with impatient.reading() as transaction:  # readers never wait
            assert transaction.devices() == ()


def test_durability_is_asked_for(store: Store) -> None:
    with store.reading() as transaction:
        ask = transaction.connection.exec_driver_sql
        assert ask("PRAGMA journal_mode").scalar() == "wal"
        assert ask("PRAGMA synchronous").scalar() == 2  # FULL
        assert ask("PRAGMA foreign_keys").scalar() == 1


def test_only_the_owner_may_read_it(path: Path, store: Store) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert all(side.stat().st_mode & 0o077 == 0 for side in path.parent.iterdir())


@pytest.mark.parametrize(
    "junk", [b"not a database at all, but long enough to look at" * 50, b"SQLite format 3\0" + b"x" * 99]
)
def test_a_file_that_is_no_database_is_refused(path: Path, junk: bytes) -> None:
    path.write_bytes(junk)
    with pytest.raises(BadInput, match="not a database"):
        Store(path)
    assert path.read_bytes() == junk


def test_a_database_of_another_program_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (url)")
    connection.close()
    with pytest.raises(BadInput, match="another program"):
        Store(path)


@pytest.mark.parametrize(("version", "remedy"), [(999, "upgrade"), (0, "backup")])
def test_another_schema_version_is_refused(path: Path, version: int, remedy: str) -> None:
    Store(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE schema SET version = ?", (version,))
    connection.close()
    with pytest.raises(BadInput, match=remedy):
        Store(path)


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nowhere"):
        Store(tmp_path / "nowhere" / "coordinator.sqlite")
