# SPDX-License-Identifier: Apache-2.0
"""The file about one edition: what it holds after each publication, and what junk in its place does."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signing.edition_news import MAX_NEWS_BYTES, News, decode_news, encode_news, news_name
from signing.errors import BadInput
from signing.news_files import KEPT, MOST_TARGET_BYTES
from tests.signing.fleet import RELEASE, Fleet

names = st.text(max_size=20)


@given(
    root=st.integers(0, 2**53),
    metadata=st.dictionaries(names, st.text(max_size=50).filter(lambda text: text.isascii())),
    targets=st.dictionaries(names, st.binary(max_size=50)),
)
def test_what_is_written_is_read(root: int, metadata: dict[str, str], targets: dict[str, bytes]) -> None:
    news = News(root=root, metadata={name: text.encode() for name, text in metadata.items()}, targets=targets)
    assert decode_news(encode_news(news)) == news


@given(st.binary(max_size=40) | st.sampled_from([b"[" * 100_000, b"{}", b'{"root": 1, "metadata": [], "targets": {}}']))
def test_junk_is_bad_input(junk: bytes) -> None:
    with pytest.raises(BadInput):
        decode_news(junk)


@pytest.mark.parametrize("field", ['"root": "x"', '"root": 1e999', '"metadata": {"a": 1}', '"targets": {"a": "*"}'])
def test_a_field_of_another_kind_is_bad_input(field: str) -> None:
    whole = {"root": '"root": 1', "metadata": '"metadata": {}', "targets": '"targets": {}'}
    whole[re.findall(r"\w+", field)[0]] = field
    with pytest.raises(BadInput):
        decode_news(f"{{{', '.join(whole.values())}}}".encode())


def test_only_roots_after_the_newest_are_denied() -> None:
    news = News(root=2)
    assert [version for version in range(1, 5) if news.denies(f"{version}.root.json")] == [3, 4]
    assert not news.denies("3.snapshot.json")
    assert not News().denies("3.root.json")  # nothing was said


def read_news(fleet: Fleet) -> News:
    path = fleet.directory / "metadata" / news_name(fleet.repository.timestamp_version())
    data = path.read_bytes()
    assert len(data) <= MAX_NEWS_BYTES
    return decode_news(data)


def served(fleet: Fleet, folder: str, *patterns: str) -> dict[str, bytes]:
    root = fleet.directory / folder
    paths = [path for pattern in patterns for path in root.glob(pattern) if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def test_it_holds_what_changed_since_the_last_one(fleet: Fleet) -> None:
    known = fleet.repository.write_news({})
    assert read_news(fleet).metadata.keys() == {"timestamp.json", "1.snapshot.json"}
    fleet.release(RELEASE)
    fleet.put_online({"schedules/berlin": b"schedule"})
    after = fleet.repository.write_news(known)
    news = read_news(fleet)
    assert after == known | {"patches": 2, "schedules": 2}
    assert news.root == 1
    wanted = ("timestamp.json", "3.snapshot.json", "2.patches.json", "2.schedules.json")
    assert news.metadata == served(fleet, "metadata", *wanted)
    assert news.targets == served(fleet, "targets", "patches/**/*", "schedules/*")
    assert len(news.targets) == len(RELEASE) + 1


def test_what_all_should_not_carry_is_left_to_those_who_ask(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    known = fleet.repository.write_news({})
    fleet.release({"patches/p/1/manifest": b"x" * MOST_TARGET_BYTES})
    fleet.put_online({"schedules/berlin": b"1", "schedules/paris": b"2"})
    known = fleet.repository.write_news(known)
    assert set(read_news(fleet).targets.values()) == {b"x" * MOST_TARGET_BYTES}
    monkeypatch.setattr("signing.news_files.MOST_METADATA_BYTES", 4_096)
    fleet.put_online({f"schedules/{number}-{'x' * 170}": b"" for number in range(20)})
    fleet.repository.write_news(known)
    assert read_news(fleet).metadata.keys() == {"timestamp.json", "4.snapshot.json"}


def test_a_new_root_is_told(fleet: Fleet) -> None:
    known = fleet.repository.write_news({})
    fleet.repository.stage("root", {}, now=fleet.now)
    fleet.sign("root")
    fleet.publish("root")
    fleet.repository.write_news(known)
    assert read_news(fleet).root == 2


def test_only_the_newest_stay(fleet: Fleet) -> None:
    known = fleet.repository.write_news({})
    for number in range(KEPT + 3):
        fleet.put_online({"schedules/berlin": b"%d" % number})
        known = fleet.repository.write_news(known)
    newest = fleet.repository.timestamp_version()
    found: list[Path] = sorted((fleet.directory / "metadata").glob("*.news.json"))
    assert {path.name for path in found} == {news_name(version) for version in range(newest - KEPT + 1, newest + 1)}
    fleet.repository.prune(now=fleet.now)
    assert all(path.exists() for path in found)
