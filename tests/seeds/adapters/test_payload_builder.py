# SPDX-License-Identifier: Apache-2.0
"""Payloads: the same whoever builds them from whatever, whole or not at all."""

import errno
import gzip
import hashlib
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seeds.adapters import payload_builder
from seeds.adapters.payload_builder import BuiltPayload, DiskFull, build_payload
from signing.errors import BadInput
from signing.reasons import Reason
from tests.hostile.archives import GOOD, tar, tar_member
from tests.seeds.adapters.sample_trees import SAMPLE, File, Link, Sample, to_tar, to_zip, write_directory


def build(source: Path, **options: int) -> BuiltPayload:
    return build_payload(source, source.parent / "out", **{"level": 1, **options})  # type: ignore[arg-type]  # options are ints


def saved(data: bytes, path: Path) -> Path:
    path.write_bytes(data)
    return path


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    return write_directory(SAMPLE, tmp_path / "sample")


def test_payload_of_the_sample_is_this_for_ever(sample: Path) -> None:
    # Another value means that no administrator can rebuild what was signed before.
    assert build(sample).payload.sha256 == "ee0acc43dc41ca4d2d91e649d137cbbb3546389ffdd5f65de2347aceb44f84c9"


def test_transport_is_a_zstd_frame_of_the_payload_under_its_own_hash(sample: Path) -> None:
    built = build(sample)
    transport = built.transport_path.read_bytes()
    assert built.transport_path.name == built.transport.sha256 == hashlib.sha256(transport).hexdigest()
    assert built.transport.size == len(transport)
    payload = zstandard.decompress(transport)
    assert built.payload.size == len(payload)
    assert built.payload.sha256 == hashlib.sha256(payload).hexdigest()
    assert [entry.name for entry in built.transport_path.parent.iterdir()] == [built.transport.sha256]


def names() -> st.SearchStrategy[str]:
    letters = st.text("abcXYZ019-_.~+ éß日", min_size=1, max_size=12)
    return letters.filter(lambda name: name not in (".", ".."))


def trees() -> st.SearchStrategy[Sample]:
    files = st.builds(File, st.binary(max_size=1500), st.booleans())
    links = st.builds(Link, names())
    nested = st.recursive(
        st.one_of(files, links), lambda below: st.dictionaries(names(), below, max_size=4), max_leaves=12
    )
    return st.dictionaries(names(), nested, min_size=1, max_size=4).map(lambda tree: dict(flat(tree, "")))


def flat(tree: Mapping[str, object], above: str) -> Iterator[tuple[str, File | Link | None]]:
    for name, item in tree.items():
        if isinstance(item, dict):
            yield above + name, None
            yield from flat(item, f"{above}{name}/")
        else:
            assert isinstance(item, File | Link)
            yield above + name, item


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tree=trees(), data=st.data())
def test_every_form_of_a_tree_in_any_order_gives_one_payload(tree: Sample, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        shuffled = data.draw(st.permutations(tuple(tree)))
        forms = [
            write_directory(tree, place / "tree"),
            write_directory(tree, place / "again", order=shuffled, mode=0o700),
            saved(to_tar(tree), place / "gnu.tar"),
            saved(to_tar(tree, form=tarfile.PAX_FORMAT, mtime=1.5, prefix="./", order=shuffled), place / "pax.tar"),
            saved(gzip.compress(to_tar(tree, order=shuffled)), place / "tar.gz"),
            saved(to_zip(tree), place / "a.zip"),
            saved(to_zip(tree, order=shuffled, directories=False), place / "b.zip"),
        ]
        assert len({build(form).payload.sha256 for form in forms}) == 1


def test_umask_and_times_leave_no_trace(tmp_path: Path) -> None:
    first = build(write_directory(SAMPLE, tmp_path / "first")).payload
    before = os.umask(0o077)
    try:
        second = write_directory(SAMPLE, tmp_path / "second", mode=0o700)
    finally:
        os.umask(before)
    os.utime(second / "lib-data", (1, 1))
    assert build(second).payload == first


def test_hard_links_become_copies_in_every_form(tmp_path: Path) -> None:
    sample = write_directory({"a": File(b"same")}, tmp_path / "hard")
    (sample / "b").hardlink_to(sample / "a")
    linked = tar(tar_member("a", b"same"), tar_member("b", kind=b"1", link="./a"))
    copied = write_directory({"a": File(b"same"), "b": File(b"same")}, tmp_path / "copied")
    expected = build(copied).payload
    assert build(sample).payload == expected
    assert build(saved(linked, tmp_path / "linked.tar")).payload == expected


def test_number_of_processors_leaves_no_trace_in_the_transport(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload_builder, "JOB_BYTES", 1 << 20)
    source = write_directory({"a": File(os.urandom(1 << 20) * 3 + bytes(1 << 20))}, tmp_path / "source")
    transports = set()
    for processors in (1, 3):
        monkeypatch.setattr(os, "cpu_count", lambda processors=processors: processors)
        transports.add(build(source, level=3).transport.sha256)
    assert len(transports) == 1


def test_endpoints_need_8_mib_to_decompress_at_every_level(tmp_path: Path) -> None:
    source = write_directory({"a": File(bytes(9 << 20))}, tmp_path / "source")
    for level in (1, 9, 19):
        transport = build(source, level=level).transport_path.read_bytes()
        assert zstandard.get_frame_parameters(transport).window_size <= 8 << 20


def test_small_payloads_are_packed_best_and_large_ones_fast(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert build_payload(sample, sample.parent / "a").transport == build(sample, level=19).transport
    monkeypatch.setattr(payload_builder, "BEST_LEVEL_UP_TO_BYTES", 1000)
    assert build_payload(sample, sample.parent / "b").transport == build(sample, level=9).transport


@pytest.mark.parametrize("level", [0, 20, -1])
def test_level_out_of_range_is_the_callers_mistake(sample: Path, level: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 19"):
        build(sample, level=level)


def test_progress_begins_at_nothing_and_ends_at_the_total(sample: Path) -> None:
    steps: list[tuple[int, int]] = []
    built = build_payload(sample, sample.parent / "out", progress=lambda done, total: steps.append((done, total)))
    assert steps[0] == (0, built.payload.size)
    assert steps[-1] == (built.payload.size, built.payload.size)
    assert steps == sorted(steps)


def assert_nothing_is_left(out: Path) -> None:
    assert list(out.iterdir()) == []


class Stopped(Exception):
    """What a caller raises from `progress` to end a build."""


def test_exception_out_of_progress_ends_the_build_and_leaves_nothing(sample: Path) -> None:
    def stop(done: int, _total: int) -> None:
        if done:
            raise Stopped

    with pytest.raises(Stopped):
        build_payload(sample, sample.parent / "out", progress=stop)
    assert_nothing_is_left(sample.parent / "out")


def test_what_was_built_before_stays_when_a_build_is_refused(sample: Path) -> None:
    built = build(sample)
    with pytest.raises(BadInput):
        build(saved(b"no archive", sample.parent / "text"))
    assert [entry.name for entry in (sample.parent / "out").iterdir()] == [built.transport.sha256]
    assert build(sample) == built


def test_full_disk_is_told_apart_and_leaves_nothing(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int, _data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(DiskFull, match=r"out: no space left; free some space") as refusal:
        build(sample)
    assert refusal.value.reason is Reason.DISK_FULL
    assert_nothing_is_left(sample.parent / "out")


def test_full_disk_while_decompressing_is_told_apart_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = saved(gzip.compress(tar(GOOD)), tmp_path / "source.tar.gz")
    monkeypatch.setattr(os, "write", lambda _descriptor, _data: (_ for _ in ()).throw(OSError(errno.EDQUOT, "quota")))
    with pytest.raises(DiskFull):
        build(source)
    assert_nothing_is_left(tmp_path / "out")


def test_place_that_cannot_be_written_to_is_named(sample: Path) -> None:
    occupied = saved(b"", sample.parent / "occupied")
    with pytest.raises(BadInput, match="occupied: cannot be written to"):
        build_payload(sample, occupied)


def test_place_inside_the_source_is_refused(sample: Path) -> None:
    with pytest.raises(BadInput, match="lies inside the source"):
        build_payload(sample, sample / "empty")
    assert_nothing_is_left(sample / "empty")


def change_content(root: Path) -> None:
    (root / "lib-data").write_bytes(b"y" * 700)


def change_size(root: Path) -> None:
    with (root / "lib-data").open("ab") as file:
        file.write(b"more")


def replace_file(root: Path) -> None:
    (root / "new").write_bytes(bytes(700))
    (root / "new").rename(root / "lib-data")


def replace_by_link(root: Path) -> None:
    (root / "lib-data").unlink()
    (root / "lib-data").symlink_to("etc/tool.conf")


def replace_by_pipe(root: Path) -> None:
    (root / "lib-data").unlink()
    os.mkfifo(root / "lib-data")


def remove_file(root: Path) -> None:
    (root / "lib-data").unlink()


def add_file(root: Path) -> None:
    (root / "empty" / "new").write_bytes(b"")


@pytest.mark.parametrize(
    "change", [change_content, change_size, replace_file, replace_by_link, replace_by_pipe, remove_file, add_file]
)
def test_directory_that_changes_while_it_is_read_is_refused(sample: Path, change: Callable[[Path], None]) -> None:
    changes = iter([change])

    def progress(_done: int, _total: int) -> None:
        for once in changes:
            once(sample)

    with pytest.raises(BadInput, match=r"changed while it was read|cannot be read"):
        build_payload(sample, sample.parent / "out", progress=progress)
    assert_nothing_is_left(sample.parent / "out")


@pytest.mark.parametrize("make", [to_tar, to_zip, lambda tree: gzip.compress(to_tar(tree))])
def test_archive_that_changes_while_it_is_read_is_refused(tmp_path: Path, make: Callable[[Sample], bytes]) -> None:
    archive = saved(make(SAMPLE), tmp_path / "archive")

    def progress(done: int, total: int) -> None:
        if done == total:
            with archive.open("ab") as file:
                file.write(b"more")

    with pytest.raises(BadInput, match="archive: changed while it was read"):
        build_payload(archive, tmp_path / "out", progress=progress)
    assert_nothing_is_left(tmp_path / "out")


def test_archive_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    archive = saved(to_tar(SAMPLE), tmp_path / "archive")
    with pytest.raises(BadInput, match="changed while it was read"):
        build_payload(archive, tmp_path / "out", progress=lambda _done, _total: os.truncate(archive, 512))
    assert_nothing_is_left(tmp_path / "out")
