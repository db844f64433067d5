# SPDX-License-Identifier: Apache-2.0
"""Trees of files, and the same tree as a directory, a tar and a zip, as different people would have packed it."""

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class File:
    """A file's content, and whether it may be executed."""

    data: bytes = b""
    executable: bool = False


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: str


Sample = Mapping[str, File | Link | None]  # by path; None is a directory, and stands before what is in it

SAMPLE: Sample = {
    "bin": None,
    "bin/tool": File(b"#!/bin/sh\nexit 0\n", executable=True),
    "bin/tool-1": Link("tool"),
    "empty": None,
    "etc": None,
    "etc/tool.conf": File(b"answer = 42\n"),
    "etc/tool.conf.d": None,
    "etc/tool.conf.d/été.conf": File(b""),
    "lib": None,
    "lib/bin": Link("../bin"),
    "lib/" + "n" * 120: File(b"long name"),
    "lib-data": File(bytes(700)),
}


def write_directory(sample: Sample, root: Path, *, order: Sequence[str] = (), mode: int = 0o755) -> Path:
    """Put `sample` below `root`; `order` says which files come first, `mode` how open they are."""
    root.mkdir()
    for path, item in sample.items():
        if item is None:
            (root / path).mkdir()
    for path in sorted(sample, key=lambda path: order.index(path) if path in order else len(order)):
        item = sample[path]
        if isinstance(item, Link):
            (root / path).symlink_to(item.target)
        elif isinstance(item, File):
            (root / path).write_bytes(item.data)
            (root / path).chmod(mode if item.executable else mode & 0o666)
    return root


def to_tar(
    sample: Sample, *, order: Sequence[str] = (), form: int = tarfile.GNU_FORMAT, prefix: str = "", mtime: float = 7
) -> bytes:
    """`sample` as an uncompressed tar, its members in `order`."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for path in order or tuple(sample):
            item = sample[path]
            header = tarfile.TarInfo(prefix + path)
            header.mtime, header.uid, header.uname = mtime, 1234, "somebody"
            if item is None:
                header.type, header.mode = tarfile.DIRTYPE, 0o2700
                archive.addfile(header)
            elif isinstance(item, Link):
                header.type, header.linkname = tarfile.SYMTYPE, item.target
                archive.addfile(header)
            else:
                header.size, header.mode = len(item.data), 0o744 if item.executable else 0o640
                archive.addfile(header, io.BytesIO(item.data))
    return file.getvalue()


def to_zip(sample: Sample, *, order: Sequence[str] = (), directories: bool = True) -> bytes:
    """`sample` as a zip, its members in `order`; without `directories`, only empty ones are named."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for path in order or tuple(sample):
            item = sample[path]
            info = zipfile.ZipInfo(path, (2001, 2, 3, 4, 5, 6))
            if isinstance(item, Link):
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
                archive.writestr(info, os.fsencode(item.target))
            elif item is not None:
                info.external_attr = (stat.S_IFREG | (0o755 if item.executable else 0o600)) << 16
                info.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(info, item.data)
            elif directories or not any(other.startswith(f"{path}/") for other in sample):
                info = zipfile.ZipInfo(f"{path}/")
                info.external_attr = (stat.S_IFDIR | 0o700) << 16
                archive.writestr(info, b"")
    return file.getvalue()
