# SPDX-License-Identifier: Apache-2.0
"""The operations on a real disk; their order is the business of the interruption tests."""

import os
from pathlib import Path

import pytest

from p2pd.installer.disk import Disk, replace_file, replace_symlink
from p2pd.installer.tree import Tree, open_regular


@pytest.fixture
def disk() -> Disk:
    return Disk()


def test_files_are_replaced_whole_and_private(disk: Disk, tmp_path: Path) -> None:
    for data in (b"old", b"new"):
        (tmp_path / ".record.new").write_bytes(b"what a kill left")
        replace_file(disk, tmp_path / "record", data)
        assert (tmp_path / "record").read_bytes() == data
        assert (tmp_path / "record").stat().st_mode & 0o777 == 0o600
        assert os.listdir(tmp_path) == ["record"]  # noqa: PTH208 (names are what is asked for)


def test_links_are_replaced_and_what_they_point_to_is_not(disk: Disk, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        replace_symlink(disk, tmp_path / "current", name)
        assert (tmp_path / "current").readlink() == Path(name)
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two", "current"}


def test_a_directory_is_never_replaced_by_a_link(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "current/precious").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        replace_symlink(disk, tmp_path / "current", "elsewhere")
    assert (tmp_path / "current/precious").is_dir()


def test_removing_a_tree_follows_no_link(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/link").symlink_to("../precious")
    (tmp_path / "link").symlink_to("precious")
    for name in ("tree", "link", "absent"):
        disk.remove_tree(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_modes_are_not_the_umasks_business(disk: Disk, tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        disk.make_directory(tmp_path / "open", 0o755)
    finally:
        os.umask(old)
    assert (tmp_path / "open").stat().st_mode & 0o777 == 0o755


def test_syncing_what_is_not_there_fails(disk: Disk, tmp_path: Path) -> None:
    disk.sync_filesystem(tmp_path)
    disk.sync_directory(tmp_path)
    for sync in (disk.sync_filesystem, disk.sync_directory):
        with pytest.raises(FileNotFoundError):
            sync(tmp_path / "absent")


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    with open_regular(tmp_path / "file") as file:
        assert file.read() == b"x"
    for name in ("link", "pipe", ".", "absent"):
        with pytest.raises(OSError, match=r"\[Errno"):
            open_regular(tmp_path / name)


def test_a_tree_is_left_by_no_link(tmp_path: Path) -> None:
    (tmp_path / "root/real").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "root/link").symlink_to("../outside")
    with Tree(tmp_path / "root") as tree:
        assert os.path.samestat(os.fstat(tree.directory(("real",))), (tmp_path / "root/real").stat())
        for path in (("link",), ("link", "below"), ("real", "absent")):
            with pytest.raises(OSError, match=r"\[Errno"):
                tree.directory(path)
        with pytest.raises(OSError, match=r"\[Errno"):
            tree.directory(("link", "made"), create=True)
        assert os.path.samestat(os.fstat(tree.directory(())), (tmp_path / "root").stat())
    assert not (tmp_path / "outside/made").exists()
