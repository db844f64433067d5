# SPDX-License-Identifier: Apache-2.0
"""Debian packages: their files travel, what dpkg would run is told."""

import shutil
import subprocess
from pathlib import Path

import pytest

from seeds.adapters.payload_builder import build_payload
from seeds.adapters.sources.opening import Source, open_source
from tests.hostile.archives import GOOD, HARD_LINK, SYMLINK, tar, tar_member
from tests.hostile.debs import CONTROL, FORMAT, ar, control_tar, deb
from tests.seeds.adapters.sample_trees import SAMPLE, write_directory

DATA = tar(
    tar_member("./", kind=b"5", mode=0o755),
    tar_member("./usr/bin/tool", b"#!", mode=0o755),
    tar_member("./usr/bin/same", kind=HARD_LINK, link="./usr/bin/tool"),
    tar_member("./usr/bin/link", kind=SYMLINK, link="/etc/alternatives/tool"),
)


def opened(data: bytes, place: Path) -> Source:
    (place / "a.deb").write_bytes(data)
    with open_source(place / "a.deb", place) as source:
        return source


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".xz", ".zst"])
def test_every_compression_gives_the_same_entries(tmp_path: Path, suffix: str) -> None:
    source = opened(deb(DATA, suffix=suffix), tmp_path)
    assert [(entry.path, entry.kind.name, entry.executable, entry.target) for entry in source.entries] == [
        ("usr", "DIRECTORY", False, ""),
        ("usr/bin", "DIRECTORY", False, ""),
        ("usr/bin/link", "SYMLINK", False, "../../etc/alternatives/tool"),
        ("usr/bin/same", "FILE", True, ""),
        ("usr/bin/tool", "FILE", True, ""),
    ]


def test_package_says_what_it_is(tmp_path: Path) -> None:
    control = CONTROL.replace(b"Description: a", b"Depends: b (>= 1),\n c\nPre-Depends: a\nDescription: \x1b[1ma")
    suggested = opened(deb(DATA, control_tar(control)), tmp_path).suggested
    assert (suggested.product, suggested.version, suggested.architecture) == ("sample", "1.0-1", "all")
    assert suggested.depends == "a, b (>= 1), c"
    assert suggested.summary == "[1ma sample"


def test_package_that_only_has_files_loses_nothing(tmp_path: Path) -> None:
    assert opened(deb(tar(GOOD)), tmp_path).suggested.ignored == ()


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    control = control_tar(postinst=b"#!", prerm=b"#!", conffiles=b"/etc/a\n/etc/b\n", triggers=b"interest x\n")
    ignored = opened(deb(DATA, control), tmp_path).suggested.ignored
    assert ignored == (
        "maintainer scripts, which are not run: postinst, prerm",
        "conffiles, whose local changes are not merged: 2",
        "triggers, which are not activated",
        "absolute links, made relative to the package's root: 1, first 'usr/bin/link'",
    )


def test_signatures_beside_the_parts_are_passed_over(tmp_path: Path) -> None:
    parts = (("control.tar", control_tar()), ("data.tar", tar(GOOD)), ("_gpgorigin", b"odd"))
    assert [entry.path for entry in opened(ar(FORMAT, *parts), tmp_path).entries] == ["ok.txt"]


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
@pytest.mark.parametrize("compression", ["none", "gzip", "xz", "zstd"])
def test_package_by_dpkg_has_the_payload_of_its_files(tmp_path: Path, compression: str) -> None:
    root = write_directory(SAMPLE, tmp_path / "sample")
    expected = build_payload(root, tmp_path / "out", level=1).payload
    (root / "DEBIAN").mkdir()
    (root / "DEBIAN" / "control").write_bytes(CONTROL + b"Maintainer: nobody <nobody@example.org>\n")
    (root / "DEBIAN" / "conffiles").write_bytes(b"/etc/tool.conf\n")
    package = tmp_path / "sample.deb"
    command = ["dpkg-deb", f"-Z{compression}", "--root-owner-group", "--build", str(root), str(package)]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    if "unknown compression" in result.stderr:
        pytest.skip(f"this dpkg-deb cannot do {compression}")
    assert result.returncode == 0, result.stderr
    built = build_payload(package, tmp_path / "out", level=1)
    assert built.payload == expected
    assert built.suggested.product == "sample"
