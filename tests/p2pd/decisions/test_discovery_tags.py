# SPDX-License-Identifier: Apache-2.0
"""Tags: exact to members of the fleet, noise to everybody else."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from p2pd.decisions.discovery_tags import (
    EPOCH_SECONDS,
    TagBook,
    aside_tag,
    epoch_of,
    presence_tag,
    state_tag,
    tags_to_announce,
    torrent_tag,
    whole_tag,
)
from p2pd.ports import MAX_TAGS, TAG_BYTES, Endpoint, Sighting

NOW = 1_800_000_000
EPOCH = epoch_of(NOW)
SEGMENT = bytes(range(32))
OTHER_SEGMENT = bytes(reversed(range(32)))

segments = st.binary(min_size=32, max_size=32)
devices = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,20}[a-z0-9])?", fullmatch=True)
info_hashes = st.binary(min_size=32, max_size=32).map(bytes.hex)
epochs = st.integers(0, 2**40)


def seen(tags: frozenset[bytes]) -> Sighting:
    return Sighting(instance="x", endpoint=Endpoint(host="10.0.0.9", port=1), mirror_port=0, tags=tags)


def book(*members: str, torrents: tuple[str, ...] = (), version: int = 7, now: int = NOW) -> TagBook:
    return TagBook.write(SEGMENT, members=members, info_hashes=torrents, timestamp_version=version, now=now)


@given(
    st.sets(segments, min_size=1, max_size=3),
    st.sets(devices, min_size=1, max_size=4),
    st.sets(epochs, min_size=1, max_size=3),
    st.sets(info_hashes, max_size=3),
)
def test_no_two_tags_are_alike_whatever_they_share(
    keys: set[bytes], names: set[str], moments: set[int], torrents: set[str]
) -> None:
    of_segments = [
        tag
        for key, device, epoch in product(keys, names, moments)
        for tag in (
            presence_tag(key, device, epoch),
            state_tag(key, device, epoch, 1),
            state_tag(key, device, epoch, 2),
        )
    ]
    of_torrents = [
        tag(info_hash, device, epoch)
        for tag, info_hash, device, epoch in product(
            (torrent_tag, whole_tag), torrents - {key.hex() for key in keys}, names, moments
        )
    ]
    tags = of_segments + of_torrents
    assert len(set(tags)) == len(tags)
    assert {len(tag) for tag in tags} == {TAG_BYTES}


def test_tags_are_a_wire_format() -> None:
    assert presence_tag(SEGMENT, "alpha", 500_000).hex() == "0ba971af11d52036"
    assert state_tag(SEGMENT, "alpha", 500_000, 7).hex() == "c80fe13e51ff3107"
    assert torrent_tag("ab" * 32, "alpha", 500_000).hex() == "43b519df29e6a269"


@given(
    st.lists(devices, min_size=1, max_size=5, unique=True),
    st.lists(info_hashes, max_size=6, unique=True),
    st.data(),
)
def test_a_member_is_recognised_exactly(members: list[str], torrents: list[str], data: st.DataObject) -> None:
    device = data.draw(st.sampled_from(members))
    carried = data.draw(st.lists(st.sampled_from(torrents), unique=True) if torrents else st.just([]))
    foreign = data.draw(info_hashes.filter(lambda candidate: candidate not in torrents))
    whole = data.draw(st.sets(st.sampled_from(torrents)) if torrents else st.just(set()))
    version = data.draw(st.integers(1, 9))
    skew = data.draw(st.integers(-EPOCH_SECONDS, EPOCH_SECONDS))
    tags = tags_to_announce(
        SEGMENT,
        device,
        epoch_of(NOW + skew),
        timestamp_version=version,
        info_hashes=[*carried, foreign],
        whole={*whole, foreign},
    )
    found = book(*members, torrents=tuple(torrents), version=7).recognise(seen(tags))
    assert found is not None
    assert found.device == device
    assert found.info_hashes == frozenset(carried)
    assert found.whole == whole & set(carried)
    assert found.has_other_state == (version != 7)


@given(devices, segments.filter(lambda key: key != SEGMENT), st.frozensets(st.binary(min_size=8, max_size=8)))
def test_strangers_mean_nothing(device: str, foreign: bytes, noise: frozenset[bytes]) -> None:
    reader = book("alpha", "beta", torrents=("ab" * 32,))
    tags = tags_to_announce(foreign, device, EPOCH, timestamp_version=7, info_hashes=["ab" * 32])
    assert reader.recognise(seen(tags | noise)) is None
    assert reader.recognise(seen(frozenset())) is None


def test_a_device_that_is_no_member_is_ignored_though_it_knows_the_segment() -> None:
    tags = tags_to_announce(SEGMENT, "gamma", EPOCH, timestamp_version=7, info_hashes=[])
    assert book("alpha", "beta").recognise(seen(tags)) is None


def test_an_announcement_two_epochs_old_is_ignored() -> None:
    tags = tags_to_announce(SEGMENT, "alpha", EPOCH - 2, timestamp_version=7, info_hashes=[])
    assert book("alpha").recognise(seen(tags)) is None


def test_whoever_claims_to_be_two_devices_is_neither() -> None:
    tags = presence_tag(SEGMENT, "alpha", EPOCH), presence_tag(SEGMENT, "beta", EPOCH)
    assert book("alpha", "beta").recognise(seen(frozenset(tags))) is None


def test_of_two_epochs_of_one_device_the_newer_counts() -> None:
    torrent = "ab" * 32
    old = tags_to_announce(SEGMENT, "alpha", EPOCH - 1, timestamp_version=7, info_hashes=[torrent])
    new = tags_to_announce(SEGMENT, "alpha", EPOCH, timestamp_version=7, info_hashes=[])
    found = book("alpha", torrents=(torrent,)).recognise(seen(old | new))
    assert found is not None
    assert found.info_hashes == frozenset()


def test_a_torrent_tag_of_another_device_is_not_this_ones() -> None:
    torrent = "ab" * 32
    tags = frozenset({presence_tag(SEGMENT, "alpha", EPOCH), torrent_tag(torrent, "beta", EPOCH)})
    found = book("alpha", "beta", torrents=(torrent,)).recognise(seen(tags))
    assert found is not None
    assert (found.device, found.info_hashes, found.has_other_state) == ("alpha", frozenset(), True)


def test_what_does_not_fit_is_the_least_dear() -> None:
    torrents = [f"{number:064x}" for number in range(MAX_TAGS + 5)]
    tags = tags_to_announce(SEGMENT, "alpha", EPOCH, timestamp_version=7, info_hashes=[torrents[0], *torrents])
    assert len(tags) == MAX_TAGS
    found = book("alpha", torrents=tuple(torrents)).recognise(seen(tags))
    assert found is not None
    assert found.info_hashes == frozenset(torrents[: MAX_TAGS - 2])
    assert not found.has_other_state


def test_whoever_stands_aside_says_so_and_takes_it_back() -> None:
    tags = tags_to_announce(SEGMENT, "alpha", EPOCH, timestamp_version=7, info_hashes=["ab" * 32], is_aside=True)
    reader = book("alpha", torrents=("ab" * 32,))
    found, later = reader.recognise(seen(tags)), reader.recognise(seen(tags - {aside_tag(SEGMENT, "alpha", EPOCH)}))
    assert (found and found.is_aside, later and later.is_aside) == (True, False)
    assert found is not None
    assert (found.info_hashes, found.has_other_state) == (frozenset(["ab" * 32]), False)
    full = tags_to_announce(
        SEGMENT,
        "alpha",
        EPOCH,
        timestamp_version=7,
        info_hashes=[f"{number:064x}" for number in range(MAX_TAGS)],
        is_aside=True,
    )
    assert len(full) == MAX_TAGS
    assert aside_tag(SEGMENT, "alpha", EPOCH) in full


def test_members_of_two_segments_do_not_know_each_other() -> None:
    tags = tags_to_announce(OTHER_SEGMENT, "alpha", EPOCH, timestamp_version=7, info_hashes=[])
    assert book("alpha").recognise(seen(tags)) is None


def test_the_first_epoch_has_no_predecessor() -> None:
    tags = tags_to_announce(SEGMENT, "alpha", 0, timestamp_version=7, info_hashes=[])
    assert book("alpha", now=0).recognise(seen(tags)) is not None
