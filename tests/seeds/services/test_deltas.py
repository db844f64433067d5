# SPDX-License-Identifier: Apache-2.0
"""Which releases deltas are made from, what each of them is worth, and that none of them can spoil a release."""

import random
from pathlib import Path

import pytest

from p2pd.host.torrent_file import read_torrent
from seeds.fleet import Fleet
from seeds.services.building import PatchWish, build_patch
from seeds.services.deltas import DeltaOutcome, add_deltas, choose_bases
from seeds.services.publishing import BuiltPatch, stage_patch
from signing.errors import BadInput
from signing.manifest import Content, Delta, Manifest
from tests.seeds.fleet_kit import Administrator

COMMON = {f"part-{number}": 30_000 for number in range(8)}


class Workshop:
    """Builds releases of `app` and keeps their transports by digest, as the shelf does."""

    def __init__(self, directory: Path, fleet: Fleet) -> None:
        self.directory = directory
        self.authorities = {name: fleet.read_segment_certificate(name) for name in ("office", "lab")}
        self.lost: set[str] = set()

    def build(self, version: str, counter: int, *, seed: str = "same", sizes: dict[str, int] = COMMON) -> BuiltPatch:
        source = self.directory / f"{version}-{seed}"
        source.mkdir(parents=True)
        for name, size in sizes.items():
            (source / name).write_bytes(random.Random(f"{seed} {name}").randbytes(size))  # noqa: S311
        (source / "version").write_text(version)
        wish = PatchWish(product="app", version=version, release_counter=counter)
        built, _ = build_patch(wish, source, into=self.directory / "out", segment_authorities=self.authorities)
        return built

    def find(self, content: Content) -> Path | None:
        return None if content.sha256 in self.lost else self.directory / "out" / content.sha256

    def add(self, built: BuiltPatch, *bases: BuiltPatch) -> tuple[BuiltPatch, tuple[DeltaOutcome, ...]]:
        return add_deltas(
            built,
            [base.manifest for base in bases],
            find_transport=self.find,
            into=self.directory / "out",
            segment_authorities=self.authorities,
        )


@pytest.fixture
def workshop(tmp_path: Path, fleet: Fleet) -> Workshop:
    return Workshop(tmp_path / "workshop", fleet)


def test_a_release_gets_a_delta_from_each_base_with_torrents_and_is_published_whole(
    workshop: Workshop, fleet: Fleet, tmp_path: Path
) -> None:
    first, second = workshop.build("1", 1), workshop.build("2", 2)
    third, outcomes = workshop.add(workshop.build("3", 3), second, first)
    full_size = third.manifest.transports[0].content.size
    assert [(outcome.base, outcome.reason, outcome.full_size) for outcome in outcomes] == [
        ("2", "", full_size),
        ("1", "", full_size),
    ]
    assert [delta.base for delta in third.manifest.deltas] == [second.manifest.payload, first.manifest.payload]
    for delta, outcome in zip(third.manifest.deltas, outcomes, strict=True):
        assert delta.content.size == outcome.size
        assert delta.content.size < full_size / 100
        for torrent in delta.torrents:
            facts = read_torrent(third.torrents[torrent.target], where="torrent")
            assert (facts.info_hash, facts.name, facts.size) == (torrent.info_hash, torrent.segment, delta.content.size)

    admin = Administrator(fleet, tmp_path / "admin")
    from datetime import UTC, datetime

    stage_patch(admin.repository, admin.shelf, third, now=datetime.now(UTC))
    admin.sign("patches")
    (released,) = admin.publish("patches")
    assert released == third.manifest
    for delta in released.deltas:
        assert (fleet.payloads / delta.content.sha256).stat().st_size == delta.content.size
    assert len([path for path in admin.repository.target_paths("patches") if path.endswith(".torrent")]) == 6


def test_the_same_releases_give_the_same_deltas(workshop: Workshop) -> None:
    base, new = workshop.build("1", 1), workshop.build("2", 2)
    assert workshop.add(new, base) == workshop.add(new, base)


def test_a_base_that_is_of_no_use_costs_the_release_only_that_delta(workshop: Workshop) -> None:
    good, lost, damaged = workshop.build("1", 1), workshop.build("2", 2), workshop.build("3", 3)
    alien = workshop.build("4", 4, seed="alien")
    workshop.lost.add(lost.manifest.transports[0].content.sha256)
    damaged.transports[0].write_bytes(b"damaged")
    new = workshop.build("5", 5)
    built, outcomes = workshop.add(new, alien, damaged, lost, good, good, new)
    assert [outcome.size is None for outcome in outcomes] == [True, True, True, False, True, True]
    for outcome, words in zip(
        outcomes,
        ("too little", "cannot be decompressed", "not on the shelf", "", "another base", "the same"),
        strict=True,
    ):
        assert words in outcome.reason
    assert [delta.base for delta in built.manifest.deltas] == [good.manifest.payload]
    assert not [
        path for path in (workshop.directory / "out").iterdir() if path.name.startswith(".") and "-payload" in path.name
    ]


def test_a_small_release_has_no_deltas(workshop: Workshop) -> None:
    sizes = {"part": 1_000}
    built, (outcome,) = workshop.add(workshop.build("2", 2, sizes=sizes), workshop.build("1", 1))
    assert built.manifest.deltas == ()
    assert "one request" in outcome.reason


def test_without_bases_nothing_is_unpacked(workshop: Workshop) -> None:
    built = workshop.build("1", 1)
    assert workshop.add(built) == (built, ())


def named(*versions: str, product: str = "app") -> list[Manifest]:
    content = Content(sha256="0" * 64, size=1)
    from signing.manifest import Transport

    transport = Transport(codec="zstd", content=content, torrents=(), segments=("office",))
    return [
        Manifest(product=product, version=v, release_counter=n, payload=content, transports=(transport,))
        for n, v in enumerate(versions, start=1)
    ]


def test_the_newest_releases_of_the_product_are_bases_unless_others_are_named() -> None:
    published = [*named("1", "2", "3"), *named("9", product="other")]

    def versions(*wanted: str, newest: int = 2) -> list[str]:
        return [m.version for m in choose_bases(published, "app", wanted, newest=newest)]

    assert versions() == ["3", "2"]
    assert versions(newest=0) == []
    assert versions("app@1", "app@1", newest=0) == ["1"]


@pytest.mark.parametrize("text", ["app", "app@", "other@9", "app@7", "@1"])
def test_a_base_that_is_no_release_of_the_product_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="--base"):
        choose_bases([*named("1"), *named("9", product="other")], "app", [text], newest=2)


def test_more_bases_than_a_manifest_holds_are_refused() -> None:
    with pytest.raises(BadInput, match="at most 8"):
        choose_bases(named("1"), "app", [f"app@{n}" for n in range(9)], newest=2)


def test_delta_is_a_kind_of_transport_that_names_its_base(workshop: Workshop) -> None:
    built, _ = workshop.add(workshop.build("2", 2), workshop.build("1", 1))
    (delta,) = built.manifest.deltas
    assert isinstance(delta, Delta)
    assert delta.codec == "hdiffpatch"
