# SPDX-License-Identifier: Apache-2.0
"""Files are found again without a look around, and only while they are the same."""

import os
from pathlib import Path

import pytest
import trio

from seeds.adapters import direct_files
from seeds.adapters.direct_files import DirectFiles


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"first")
    return tmp_path


async def find(files: DirectFiles, root: Path, name: str = "folder/file") -> bytes | None:
    found = await files.find(root, name)
    return None if found is None else found.path.read_bytes()[: found.facts.st_size]


async def test_who_is_known_is_found_without_a_thread(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = DirectFiles()
    assert await find(files, root) == b"first"
    monkeypatch.setattr(trio.to_thread, "run_sync", None)
    assert await find(files, root) == b"first"


async def test_what_replaces_a_file_is_found_in_its_place(root: Path) -> None:
    files = DirectFiles()
    await find(files, root)
    (root / "new").write_bytes(b"the second")
    (root / "new").replace(root / "folder" / "file")
    assert await find(files, root) == b"the second"


async def test_what_is_written_to_a_file_is_seen(root: Path) -> None:
    files = DirectFiles()
    await find(files, root)
    (root / "folder" / "file").write_bytes(b"longer than first")
    assert await find(files, root) == b"longer than first"


async def test_what_is_gone_is_not_found(root: Path) -> None:
    files = DirectFiles()
    await find(files, root)
    (root / "folder" / "file").unlink()
    assert await find(files, root) is None
    (root / "folder" / "file").mkdir()
    assert await find(files, root) is None


async def test_a_link_that_takes_the_place_of_a_file_is_not_followed(root: Path) -> None:
    files = DirectFiles()
    await find(files, root)
    (root / "folder" / "file").rename(root / "moved")
    (root / "folder" / "file").symlink_to(root / "moved")
    assert await find(files, root) is None


async def test_a_link_on_the_way_leads_to_no_other_file(root: Path) -> None:
    files = DirectFiles()
    await find(files, root)
    (root / "outside").mkdir()
    (root / "outside" / "file").write_bytes(b"first")
    (root / "folder").rename(root / "was")
    (root / "folder").symlink_to(root / "outside")
    assert await find(files, root) is None


async def test_names_are_remembered_up_to_a_bound(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct_files, "_MAX_KNOWN", 2)
    looked_at: list[str] = []
    look = direct_files.direct_file

    def count(root: Path, name: str) -> direct_files.DirectFile | None:
        looked_at.append(name)
        return look(root, name)

    monkeypatch.setattr(direct_files, "direct_file", count)
    files = DirectFiles()
    for name in "abc":
        (root / name).write_bytes(os.urandom(10))
    for name in ("a", "b", "a", "c", "a", "b"):  # `b` was not asked for longest when `c` came
        assert await find(files, root, name) is not None
    assert looked_at == ["a", "b", "c", "b"]
