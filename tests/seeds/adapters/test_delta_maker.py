# SPDX-License-Identifier: Apache-2.0
"""Deltas between payloads: made again the same, small where little has changed, in windows that find their stretches."""

import hashlib
import random
import tarfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import pytest
import zstandard

from p2pd.adapters.rebuilding import rebuild
from p2pd.host import delta_file
from p2pd.host.delta_file import windows
from p2pd.ports_delta import Base, Rebuild
from seeds.adapters import delta_maker
from seeds.adapters.delta_maker import NoDelta, check_sizes, make_delta, unpack
from signing.errors import BadInput, ContentMismatch
from signing.manifest import Content

WINDOW, STRETCH = 20_000, 60_000


def content(path: Path) -> Content:
    data = path.read_bytes()
    return Content(sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def noise(seed: object, size: int) -> bytes:
    return random.Random(str(seed)).randbytes(size)  # noqa: S311 (content for tests)


def payload(path: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, BytesIO(data))
    return path


def apply_it(directory: Path, base: Path, delta: Content, new: Path) -> bytes:
    work = Rebuild(
        base=Base(path=base, content=content(base), is_compressed=False),
        delta=directory / delta.sha256,
        delta_content=delta,
        result=directory / "rebuilt" / "x",
        payload=content(new),
    )
    rebuild(work)
    return work.result.read_bytes()


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that small payloads reach."""
    for module in (delta_file, delta_maker):
        monkeypatch.setattr(module, "WINDOW_BYTES", WINDOW)
        monkeypatch.setattr(module, "STRETCH_BYTES", STRETCH)


def test_a_delta_makes_the_payload_and_is_the_same_each_time(tmp_path: Path) -> None:
    files = {f"file-{n}": noise(n, 3_000) for n in range(20)}
    old = payload(tmp_path / "old", files)
    new = payload(tmp_path / "new", files | {"file-7": noise("changed", 3_100), "extra": b"x" * 900})
    seen: list[tuple[int, int]] = []
    delta = make_delta(old, new, tmp_path, most_bytes=10**6, progress=lambda done, total: seen.append((done, total)))
    assert apply_it(tmp_path, old, delta, new) == new.read_bytes()
    assert delta.size < 4_500
    assert seen == [(new.stat().st_size, new.stat().st_size)]
    assert make_delta(old, new, tmp_path, most_bytes=10**6) == delta
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["new", "old", "rebuilt", delta.sha256])


@pytest.mark.usefixtures("small_windows")
def test_windows_of_a_large_payload_find_what_has_moved(tmp_path: Path) -> None:
    """Much was taken out at the beginning, and a directory renamed: each window still looks in the right place."""
    files = {f"pkg-1/{n:03}": noise(n, 4_000) for n in range(100)}
    old = payload(tmp_path / "old", files | {f"a/{n}": noise(("gone", n), 8_000) for n in range(20)})
    new = payload(tmp_path / "new", files | {"a/0": b"short", "pkg-0.info/x": b"1"})
    assert old.stat().st_size > 3 * STRETCH
    delta = make_delta(old, new, tmp_path, most_bytes=10**6)
    assert apply_it(tmp_path, old, delta, new) == new.read_bytes()
    assert delta.size < new.stat().st_size / 20
    with (tmp_path / delta.sha256).open("rb") as file:
        found = list(windows(file, base=content(old), payload=content(new)))
    assert len(found) == -(-new.stat().st_size // WINDOW)
    assert max(window.base_bytes for window in found) <= STRETCH
    assert max(window.new_bytes for window in found) <= WINDOW


@pytest.mark.usefixtures("small_windows")
def test_payloads_that_have_nothing_in_common_give_none_and_soon(tmp_path: Path) -> None:
    old = payload(tmp_path / "old", {f"x{n}": noise(n, 9_000) for n in range(30)})
    new = payload(tmp_path / "new", {f"y{n}": noise(-n - 1, 9_000) for n in range(30)})
    done: list[int] = []
    with pytest.raises(NoDelta, match="too little is the same"):
        make_delta(old, new, tmp_path, most_bytes=30_000, progress=lambda made, _: done.append(made))
    assert done[-1] < new.stat().st_size / 3


def test_payloads_beyond_the_bound_are_refused_with_the_reason() -> None:
    small = Content(sha256="0" * 64, size=1)
    huge = Content(sha256="1" * 64, size=delta_file.MAX_PAYLOAD_BYTES + 1)
    check_sizes(small, small)
    with pytest.raises(NoDelta, match=f"the base has {huge.size} bytes"):
        check_sizes(huge, small)
    with pytest.raises(NoDelta, match=f"the new payload has {huge.size} bytes"):
        check_sizes(small, huge)


def test_unpacking_believes_the_digest_only(tmp_path: Path) -> None:
    data = noise("payload", 50_000)
    (tmp_path / "good").write_bytes(zstandard.ZstdCompressor().compress(data))
    expected = Content(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    unpack(tmp_path / "good", expected, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data
    (tmp_path / "longer").write_bytes(zstandard.ZstdCompressor().compress(data + b"x"))
    (tmp_path / "other").write_bytes(zstandard.ZstdCompressor().compress(bytes(len(data))))
    (tmp_path / "shorter").write_bytes(zstandard.ZstdCompressor().compress(data[:-1]))
    for name in ("longer", "other", "shorter"):
        with pytest.raises(ContentMismatch):
            unpack(tmp_path / name, expected, tmp_path / f"from-{name}")
    (tmp_path / "noise").write_bytes(b"no frame at all")
    for name in ("noise", "absent"):
        with pytest.raises(BadInput):
            unpack(tmp_path / name, expected, tmp_path / f"from-{name}")
