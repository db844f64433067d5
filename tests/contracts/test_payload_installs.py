# SPDX-License-Identifier: Apache-2.0
"""What the payload builder accepts, p2pd-install reads: one would otherwise find out on every endpoint at once."""

import stat
from pathlib import Path

import pytest

from p2pd.installer.archive import Kind, members
from p2pd.installer.payload_stream import PayloadStream
from seeds.adapters.payload_builder import build_payload
from seeds.adapters.sources.entries import MAX_DEPTH, MAX_PART_BYTES, MAX_PATH_BYTES
from tests.hostile.archives import DIRECTORY, SYMLINK, tar, tar_member
from tests.hostile.debs import deb
from tests.seeds.adapters.sample_trees import SAMPLE, to_tar

PART = "é" * (MAX_PART_BYTES // 2)
LONGEST = "/".join([PART] * (MAX_PATH_BYTES // (2 * len(PART) + 1)))

EDGES = {
    "sample": to_tar(SAMPLE),
    "part": tar(tar_member("n" * MAX_PART_BYTES, b"x")),
    "path": tar(tar_member(LONGEST + "/" + "n" * (MAX_PATH_BYTES - len(LONGEST.encode()) - 1), b"x")),
    "depth": tar(tar_member("/".join("d" * MAX_DEPTH), b"x")),
    "target": tar(tar_member("link", kind=SYMLINK, link="/".join(["n" * 95] * (MAX_PATH_BYTES // 96)))),
    "ups": tar(tar_member("a/b/c/link", kind=SYMLINK, link="../.././../x")),
    "root_link": tar(tar_member("a/link", kind=SYMLINK, link="..")),
    "dangling_link": tar(tar_member("link", kind=SYMLINK, link="not/here/")),
    "loop": tar(tar_member("a", kind=SYMLINK, link="b"), tar_member("b", kind=SYMLINK, link="a")),
    "control_characters": tar(tar_member("a\nb\x1b", b"x")),
    "colons": tar(tar_member("man/B::Concise", b"x"), tar_member("ab:", b"x")),
    "only_a_directory": tar(tar_member("d", kind=DIRECTORY, mode=0o2755)),
    "package": deb(tar(tar_member("./usr/bin/link", kind=SYMLINK, link="/usr/share/x/"))),
    "package_link_to_root": deb(tar(tar_member("./usr/link", kind=SYMLINK, link="/"))),
}


@pytest.mark.parametrize("name", EDGES)
def test_installer_reads_what_was_built(tmp_path: Path, name: str) -> None:
    (tmp_path / "source").write_bytes(EDGES[name])
    built = build_payload(tmp_path / "source", tmp_path / "out", level=1)
    with built.transport_path.open("rb") as transport:
        stream = PayloadStream(transport, built.payload, where="payload")
        for member in members(stream, where="payload"):
            for _ in stream.content(member.size if member.kind is Kind.FILE else 0):
                pass
            if member.kind is not Kind.SYMLINK:
                assert member.mode in (0o644, 0o755)
    assert stat.S_IMODE(built.transport_path.stat().st_mode) == 0o644
