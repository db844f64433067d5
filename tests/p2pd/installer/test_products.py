# SPDX-License-Identifier: Apache-2.0
"""Install, commit and roll back as an agent sees them, without interruptions."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from p2pd.installer.journal import Phase
from p2pd.installer.refusal import InstallRefused
from signing.errors import ContentMismatch
from signing.reasons import Reason
from tests.p2pd.installer.made_releases import (
    FIRST_FILES,
    NOW,
    SECOND_FILES,
    THIRD_FILES,
    Endpoint,
    MadeRelease,
    damaged,
    make_release,
)


@pytest.fixture
def endpoint(tmp_path: Path) -> Endpoint:
    return Endpoint(tmp_path / "endpoint")


@pytest.fixture
def first(tmp_path: Path) -> MadeRelease:
    return make_release(tmp_path / "made", "1.0", 10, FIRST_FILES)


@pytest.fixture
def second(tmp_path: Path) -> MadeRelease:
    return make_release(tmp_path / "made", "1.1", 11, SECOND_FILES)


@pytest.fixture
def third(tmp_path: Path) -> MadeRelease:
    return make_release(tmp_path / "made", "1.2", 12, THIRD_FILES)


def test_the_first_release_comes_into_use(endpoint: Endpoint, first: MadeRelease) -> None:
    installation = endpoint.products.install(first.manifest, first.transport)
    assert installation.previous is None
    assert installation.slot == endpoint.current.resolve()
    assert endpoint.in_use() == FIRST_FILES
    assert (endpoint.current / "link").readlink() == Path("readme")
    assert os.access(endpoint.current / "bin/tool", os.X_OK)
    (record,) = endpoint.products.records()
    assert (record.phase, record.previous, record.committed) == (Phase.PROBATION, None, None)
    assert record.active is not None
    assert (record.active.version, record.active.release_counter, record.active.installed_at) == ("1.0", 10, NOW)


def test_a_repeated_install_answers_as_before_and_changes_nothing(
    endpoint: Endpoint, first: MadeRelease, second: MadeRelease
) -> None:
    endpoint.install(first, commit=True)
    once = endpoint.products.install(second.manifest, second.transport)
    listing = endpoint.listing()
    assert endpoint.products.install(second.manifest, second.transport) == once
    endpoint.products.commit("tool", second.sha256)
    assert endpoint.products.install(second.manifest, second.transport) == once
    assert endpoint.products.install(second.manifest, Path("/nowhere")) == once
    assert [path for path in endpoint.listing() if path not in listing] == []


def test_exactly_the_active_and_the_previous_release_are_kept(
    endpoint: Endpoint, first: MadeRelease, second: MadeRelease, third: MadeRelease
) -> None:
    endpoint.install(first, commit=True)
    endpoint.install(second, commit=True)
    endpoint.install(third)
    assert endpoint.stored() == sorted([first.sha256, second.sha256, third.sha256]), "should the third fail"
    assert len(endpoint.slots()) == 3
    endpoint.products.commit("tool", third.sha256)
    endpoint.products.commit("tool", third.sha256)
    assert endpoint.stored() == sorted([second.sha256, third.sha256])
    assert endpoint.slots() == sorted([f"11-{second.sha256[:12]}", f"12-{third.sha256[:12]}"])


def test_rolling_back_a_candidate_restores_what_was_there(
    endpoint: Endpoint, first: MadeRelease, second: MadeRelease, third: MadeRelease
) -> None:
    endpoint.install(first, commit=True)
    endpoint.install(second, commit=True)
    before = endpoint.listing()
    endpoint.install(third)
    for _ in "again":
        active = endpoint.products.rollback("tool", third.sha256)
        assert active is not None
        assert active.version == "1.1"
        assert endpoint.in_use() == SECOND_FILES
        assert endpoint.listing() == before
    (record,) = endpoint.products.records()
    assert record.previous is not None, "the fallback of what came back is still there"
    assert record.previous.version == "1.0"


def test_rolling_back_a_committed_release_restores_the_one_before(
    endpoint: Endpoint, first: MadeRelease, second: MadeRelease
) -> None:
    endpoint.install(first, commit=True)
    endpoint.install(second, commit=True)
    active = endpoint.products.rollback("tool", second.sha256)
    assert active is not None
    assert active.manifest_sha256 == first.sha256
    assert endpoint.in_use() == FIRST_FILES
    assert endpoint.stored() == [first.sha256]


def test_rolling_back_the_very_first_release_leaves_nothing_in_use(endpoint: Endpoint, first: MadeRelease) -> None:
    endpoint.install(first)
    assert endpoint.products.rollback("tool", first.sha256) is None
    assert endpoint.in_use() is None
    assert (endpoint.slots(), endpoint.stored(), endpoint.products.records()) == ([], [], ())
    assert endpoint.products.rollback("tool", first.sha256) is None
    assert endpoint.products.rollback("unheard-of", first.sha256) is None


def test_rolling_back_what_is_not_in_use_changes_nothing(
    endpoint: Endpoint, first: MadeRelease, second: MadeRelease
) -> None:
    endpoint.install(first, commit=True)
    active = endpoint.products.rollback("tool", second.sha256)
    assert active is not None
    assert active.manifest_sha256 == first.sha256
    assert endpoint.in_use() == FIRST_FILES


def test_after_a_rollback_the_next_release_is_welcome(
    endpoint: Endpoint, first: MadeRelease, second: MadeRelease, third: MadeRelease
) -> None:
    endpoint.install(first, commit=True)
    endpoint.install(second)
    endpoint.products.rollback("tool", second.sha256)
    endpoint.install(third, commit=True)
    assert endpoint.in_use() == THIRD_FILES


def refusal(endpoint: Endpoint, release: MadeRelease) -> Reason:
    with pytest.raises(InstallRefused) as refused:
        endpoint.install(release)
    return refused.value.reason


def test_older_releases_are_refused(endpoint: Endpoint, first: MadeRelease, second: MadeRelease) -> None:
    endpoint.install(second, commit=True)
    assert refusal(endpoint, first) is Reason.OLDER_THAN_INSTALLED
    assert endpoint.in_use() == SECOND_FILES


def test_another_release_with_the_same_counter_is_refused(
    endpoint: Endpoint, first: MadeRelease, tmp_path: Path
) -> None:
    endpoint.install(first, commit=True)
    twin = make_release(tmp_path / "twin", "1.0", 10, SECOND_FILES)
    assert refusal(endpoint, twin) is Reason.OLDER_THAN_INSTALLED


def test_a_newer_release_takes_the_place_of_one_on_probation(
    endpoint: Endpoint, first: MadeRelease, second: MadeRelease, third: MadeRelease
) -> None:
    endpoint.install(first, commit=True)
    endpoint.install(second)
    installation = endpoint.products.install(third.manifest, third.transport)
    assert installation.previous is not None
    assert installation.previous.manifest_sha256 == first.sha256, "the abandoned one never proved itself"
    assert endpoint.in_use() == THIRD_FILES
    (record,) = endpoint.products.records()
    assert (record.phase, record.previous, record.abandoned) == (Phase.PROBATION, installation.previous, None)
    assert endpoint.stored() == sorted([first.sha256, third.sha256])
    assert endpoint.slots() == sorted([f"10-{first.sha256[:12]}", f"12-{third.sha256[:12]}"])
    active = endpoint.products.rollback("tool", third.sha256)
    assert active == installation.previous
    assert endpoint.in_use() == FIRST_FILES


def test_the_release_after_an_abandoned_one_can_be_committed(
    endpoint: Endpoint, first: MadeRelease, second: MadeRelease, third: MadeRelease
) -> None:
    endpoint.install(first, commit=True)
    endpoint.install(second)
    endpoint.install(third, commit=True)
    (record,) = endpoint.products.records()
    assert (record.phase, record.candidate) == (Phase.IDLE, None)
    assert record.previous is not None
    assert record.previous.version == "1.0"
    with pytest.raises(InstallRefused):
        endpoint.products.commit("tool", second.sha256)
    endpoint.products.rollback("tool", second.sha256)
    assert endpoint.in_use() == THIRD_FILES, "the abandoned one is nothing any more"


def test_a_newer_release_takes_the_place_of_the_very_first(
    endpoint: Endpoint, first: MadeRelease, second: MadeRelease, tmp_path: Path
) -> None:
    endpoint.install(first)
    assert endpoint.products.install(second.manifest, second.transport).previous is None
    proud = make_release(tmp_path / "proud", "2.0", 20, THIRD_FILES, oldest_fallback=20)
    endpoint.install(proud)  # there is nothing to go back to
    assert endpoint.products.rollback("tool", proud.sha256) is None
    assert (endpoint.in_use(), endpoint.slots(), endpoint.stored()) == (None, [], [])


def test_what_is_not_newer_takes_no_place(
    endpoint: Endpoint, first: MadeRelease, second: MadeRelease, third: MadeRelease, tmp_path: Path
) -> None:
    endpoint.install(first, commit=True)
    endpoint.install(third)
    twin = make_release(tmp_path / "twin", "1.2", 12, SECOND_FILES)
    odd = make_release(tmp_path / "odd", "1.3", 13, SECOND_FILES, installer="magic")
    proud = make_release(tmp_path / "proud", "1.4", 14, SECOND_FILES, oldest_fallback=12)
    before = endpoint.listing()
    for release in (first, second, twin):
        assert refusal(endpoint, release) is Reason.OLDER_THAN_INSTALLED
    assert refusal(endpoint, odd) is Reason.INSTALLER_UNKNOWN
    assert refusal(endpoint, proud) is Reason.FALLBACK_FORBIDDEN
    (record,) = endpoint.products.records()
    assert (record.phase, endpoint.in_use(), endpoint.listing()) == (Phase.PROBATION, THIRD_FILES, before)


def test_a_newcomer_that_cannot_be_installed_leaves_the_one_on_probation(
    endpoint: Endpoint, first: MadeRelease, second: MadeRelease, third: MadeRelease
) -> None:
    endpoint.install(first, commit=True)
    endpoint.install(second)
    before, records = endpoint.listing(), endpoint.products.records()
    third.transport.write_bytes(third.transport.read_bytes()[:-1] + b"?")
    with pytest.raises(ContentMismatch):
        endpoint.install(third)
    assert (endpoint.listing(), endpoint.products.records()) == (before, records)
    assert endpoint.in_use() == SECOND_FILES
    endpoint.products.commit("tool", second.sha256)


def test_a_release_that_forbids_going_back_to_what_is_active_is_refused(
    endpoint: Endpoint, first: MadeRelease, second: MadeRelease, tmp_path: Path
) -> None:
    proud = make_release(tmp_path / "proud", "2.0", 20, THIRD_FILES, oldest_fallback=11)
    endpoint.install(first, commit=True)
    assert refusal(endpoint, proud) is Reason.FALLBACK_FORBIDDEN
    endpoint.install(second, commit=True)
    endpoint.install(proud)
    assert endpoint.in_use() == THIRD_FILES


def test_a_release_that_forbids_going_back_may_come_first(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.install(make_release(tmp_path / "proud", "2.0", 20, THIRD_FILES, oldest_fallback=11))
    assert endpoint.in_use() == THIRD_FILES


def test_recalled_releases_are_refused_even_when_in_use(endpoint: Endpoint, first: MadeRelease) -> None:
    endpoint.recalls.withdrawn.add(first.sha256)
    assert refusal(endpoint, first) is Reason.RECALLED
    endpoint.recalls.withdrawn.clear()
    endpoint.install(first, commit=True)
    endpoint.recalls.withdrawn.add(first.sha256)
    assert refusal(endpoint, first) is Reason.RECALLED
    assert endpoint.in_use() == FIRST_FILES


def test_a_recalled_fallback_is_not_gone_back_to(endpoint: Endpoint, first: MadeRelease, second: MadeRelease) -> None:
    endpoint.install(first, commit=True)
    endpoint.recalls.withdrawn.add(first.sha256)
    endpoint.install(second)  # the remedy for a recalled release is a newer one
    with pytest.raises(InstallRefused, match="it eats disks") as refused:
        endpoint.products.rollback("tool", second.sha256)
    assert refused.value.reason is Reason.RECALLED
    assert endpoint.in_use() == SECOND_FILES
    (record,) = endpoint.products.records()
    assert record.phase is Phase.PROBATION, "it stays where it was, for a newer release to replace it"


def test_the_remedy_is_let_in_where_there_was_nothing_to_go_back_to(
    endpoint: Endpoint, first: MadeRelease, second: MadeRelease, third: MadeRelease
) -> None:
    endpoint.install(first, commit=True)
    endpoint.install(second)
    endpoint.recalls.withdrawn.add(first.sha256)
    endpoint.recalls.withdrawn.add(second.sha256)
    with pytest.raises(InstallRefused):
        endpoint.products.rollback("tool", second.sha256)
    endpoint.install(third, commit=True)
    assert endpoint.in_use() == THIRD_FILES


def test_a_rollback_passes_a_recalled_release_by(
    endpoint: Endpoint, first: MadeRelease, second: MadeRelease, third: MadeRelease
) -> None:
    endpoint.install(first, commit=True)
    endpoint.install(second, commit=True)
    endpoint.install(third)
    endpoint.recalls.withdrawn.add(second.sha256)
    active = endpoint.products.rollback("tool", third.sha256)
    assert active is not None
    assert active.version == "1.0"
    assert endpoint.in_use() == FIRST_FILES
    assert endpoint.stored() == [first.sha256]
    (record,) = endpoint.products.records()
    assert (record.phase, record.previous) == (Phase.IDLE, None)


@pytest.mark.parametrize("why_not", ["recalled", "damaged", "forbidden", "forbidden by the one it replaced"])
def test_a_rollback_does_not_go_just_anywhere(
    endpoint: Endpoint, first: MadeRelease, second: MadeRelease, tmp_path: Path, why_not: str
) -> None:
    endpoint.install(first, commit=True)
    endpoint.install(second, commit=True)
    if why_not == "forbidden by the one it replaced":
        endpoint.install(make_release(tmp_path / "proud", "1.2", 12, THIRD_FILES, oldest_fallback=11))
    oldest_fallback = 11 if why_not == "forbidden" else 0
    latest = make_release(tmp_path / "latest", "1.3", 13, THIRD_FILES, oldest_fallback=oldest_fallback)
    endpoint.install(latest)
    endpoint.recalls.withdrawn.add(second.sha256)
    if why_not == "recalled":
        endpoint.recalls.withdrawn.add(first.sha256)
    elif why_not == "damaged":
        (endpoint.directory / "state/releases/tool" / first.sha256 / "transport").write_bytes(b"damaged")
    before = endpoint.listing()
    with pytest.raises(InstallRefused, match=r"1\.1, to go back to, was withdrawn") as refused:
        endpoint.products.rollback("tool", latest.sha256)
    assert refused.value.reason is Reason.RECALLED
    assert (endpoint.in_use(), endpoint.listing()) == (THIRD_FILES, before)


def test_unknown_and_changed_installers_are_refused(endpoint: Endpoint, first: MadeRelease, tmp_path: Path) -> None:
    odd = make_release(tmp_path / "odd", "1.1", 11, SECOND_FILES, installer="magic")
    assert refusal(endpoint, odd) is Reason.INSTALLER_UNKNOWN
    endpoint.install(first, commit=True)
    assert refusal(endpoint, odd) is Reason.INSTALLER_UNKNOWN


@pytest.mark.parametrize("file", ["transport", "manifest"])
@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_no_install_without_an_intact_fallback(
    endpoint: Endpoint, first: MadeRelease, second: MadeRelease, file: str, damage: str
) -> None:
    endpoint.install(first, commit=True)
    stored = endpoint.directory / "state/releases/tool" / first.sha256 / file
    stored.unlink() if damage == "gone" else stored.write_bytes(stored.read_bytes()[:-1] + b"?")
    assert refusal(endpoint, second) is Reason.FALLBACK_MISSING
    assert endpoint.in_use() == FIRST_FILES
    assert endpoint.stored() == [first.sha256]


def test_commit_of_something_else_is_refused(endpoint: Endpoint, first: MadeRelease, second: MadeRelease) -> None:
    for _ in "before", "after":
        with pytest.raises(InstallRefused) as refused:
            endpoint.products.commit("tool", second.sha256)
        assert refused.value.reason is Reason.NOT_ON_PROBATION
        endpoint.install(first)


def test_a_transport_with_other_bytes_is_refused(endpoint: Endpoint, first: MadeRelease, second: MadeRelease) -> None:
    endpoint.install(first, commit=True)
    before = endpoint.listing()
    good = second.transport.read_bytes()
    for bad in (good[:-1] + bytes([good[-1] ^ 1]), good[:-1], good + b"!"):
        second.transport.write_bytes(bad)
        with pytest.raises(ContentMismatch):
            endpoint.install(second)
        assert endpoint.in_use() == FIRST_FILES
        assert endpoint.listing() == before


def test_a_payload_with_another_hash_is_refused(endpoint: Endpoint, first: MadeRelease) -> None:
    payload = first.manifest.manifest.payload
    for lie in (replace(payload, sha256="f" * 64), replace(payload, size=payload.size - 1)):
        liar = damaged(first, payload=lie)
        with pytest.raises(ContentMismatch):
            endpoint.products.install(liar, first.transport)
        assert (endpoint.slots(), endpoint.stored(), endpoint.in_use()) == ([], [], None)


def test_what_is_handed_over_must_be_a_regular_file(endpoint: Endpoint, first: MadeRelease, tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "symlink"
    os.mkfifo(pipe)
    link.symlink_to(first.transport)
    for path in (pipe, link, tmp_path, tmp_path / "absent", first.transport / "below"):
        with pytest.raises(InstallRefused, match=path.name) as refused:
            endpoint.products.install(first.manifest, path)
        assert refused.value.reason is Reason.PAYLOAD_MISSING
        assert endpoint.in_use() is None


def test_a_changed_transport_after_the_check_changes_nothing(endpoint: Endpoint, first: MadeRelease) -> None:
    endpoint.install(first)
    first.transport.write_bytes(b"evil")
    stored = endpoint.directory / "state/releases/tool" / first.sha256 / "transport"
    assert stored.stat().st_ino != first.transport.stat().st_ino
    assert b"evil" not in stored.read_bytes()
