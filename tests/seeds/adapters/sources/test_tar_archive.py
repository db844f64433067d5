# SPDX-License-Identifier: Apache-2.0
"""Tars as real tools write them."""

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from seeds.adapters.sources.entries import Entry
from seeds.adapters.sources.opening import Source, open_source
from signing.errors import BadInput
from tests.hostile.archives import DIRECTORY, GOOD, HARD_LINK, SYMLINK, pax_header, tar, tar_member
from tests.seeds.adapters.sample_trees import SAMPLE, File, to_tar, write_directory


def opened(data: bytes, place: Path) -> Source:
    (place / "a.tar").write_bytes(data)
    with open_source(place / "a.tar", place) as source:
        return source


def facts(source: Source) -> list[tuple[str, str, bool, int, str]]:
    def of(entry: Entry) -> tuple[str, str, bool, int, str]:
        return entry.path, entry.kind.name, entry.executable, entry.size, entry.target

    return [of(entry) for entry in source.entries]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_both_formats_say_the_same(tmp_path: Path, form: int) -> None:
    with open_source(write_directory(SAMPLE, tmp_path / "sample"), tmp_path) as source:
        expected = facts(source)
    assert facts(opened(to_tar(SAMPLE, form=form), tmp_path)) == expected


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs the tar program")
@pytest.mark.parametrize("form", ["gnu", "pax", "ustar", "v7"])
def test_tar_program_is_understood(tmp_path: Path, form: str) -> None:
    sample = {path: item for path, item in SAMPLE.items() if len(path) < 90}
    root = write_directory(sample, tmp_path / "sample")
    (root / "hard").hardlink_to(root / "bin" / "tool")
    archive = tmp_path / "by-program.tar"
    command = ["tar", "-C", str(root), f"--format={form}", "-cf", str(archive), "."]
    subprocess.run(command, check=True)
    with open_source(root, tmp_path) as source:
        expected = facts(source)
    with open_source(archive, tmp_path) as source:
        assert facts(source) == expected


def test_hard_link_to_a_hard_link_is_a_copy(tmp_path: Path) -> None:
    second, third = (tar_member(name, kind=HARD_LINK, link=link) for name, link in (("b", "ok.txt"), ("d/c", "./b")))
    source = opened(tar(GOOD, second, third), tmp_path)
    assert [(path, size) for path, kind, _, size, _ in facts(source) if kind == "FILE"] == [
        ("b", 5),
        ("d/c", 5),
        ("ok.txt", 5),
    ]


def test_hard_link_to_a_symbolic_link_is_another_symbolic_link(tmp_path: Path) -> None:
    link = tar_member("d/link", kind=SYMLINK, link="../ok.txt")
    source = opened(tar(GOOD, link, tar_member("e/copy", kind=HARD_LINK, link="d/link")), tmp_path)
    assert ("e/copy", "SYMLINK", False, 0, "../ok.txt") in facts(source)
    with pytest.raises(BadInput, match=r"'copy': links to '\.\./ok.txt', outside"):
        opened(tar(GOOD, link, tar_member("copy", kind=HARD_LINK, link="d/link")), tmp_path)


def test_special_bits_of_directories_are_dropped(tmp_path: Path) -> None:
    assert facts(opened(tar(tar_member("d/", kind=DIRECTORY, mode=0o3777)), tmp_path)) == [
        ("d", "DIRECTORY", False, 0, "")
    ]


def test_global_and_extended_headers_are_understood(tmp_path: Path) -> None:
    comment = pax_header({b"comment": b"as git archive writes"}, kind=b"g")
    named = pax_header({b"path": "renamed é".encode()}) + tar_member("short", b"data")
    assert [entry.path for entry in opened(tar(comment, named), tmp_path).entries] == ["renamed é"]


def test_many_members_are_not_kept_by_tarfile(tmp_path: Path) -> None:
    many = {f"{index:04}": File(b"x") for index in range(2000)}
    assert len(opened(to_tar(many), tmp_path).entries) == 2000


def test_private_files_are_counted_as_a_loss(tmp_path: Path) -> None:
    source = opened(tar(GOOD, tar_member("etc/secret", b"x", mode=0o640)), tmp_path)
    assert source.suggested.ignored == ("files that not everybody could read, and now can: 1, first 'etc/secret'",)
