# SPDX-License-Identifier: Apache-2.0
"""Any source, by what it is and not by what it is called: a directory, a zip or wheel, a tar, a Debian package."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from seeds.adapters.sources.compression import codec_of, spooled
from seeds.adapters.sources.deb import AR_MAGIC, reading_deb
from seeds.adapters.sources.directory import read_directory
from seeds.adapters.sources.entries import Entry
from seeds.adapters.sources.refusals import reading
from seeds.adapters.sources.region import Region, open_file
from seeds.adapters.sources.suggestions import Suggested
from seeds.adapters.sources.tar_archive import is_tar, read_tar
from seeds.adapters.sources.tree import Tree
from seeds.adapters.sources.zip_archive import describe_wheel, read_zip
from signing.errors import BadInput

_ZIP_MAGICS = (b"PK\3\4", b"PK\5\6")  # the second is an empty zip


@dataclass(frozen=True)
class Source:
    """An open source: its whole content in payload order, readable while it is open."""

    name: str
    entries: tuple[Entry, ...]
    suggested: Suggested


@contextmanager
def open_source(path: Path, spool: Path) -> Iterator[Source]:
    """Open `path`; what has to be decompressed first goes to an unnamed file in the directory `spool`.

    Raises BadInput (DiskFull is one), when the block ends well also for a source that has changed meanwhile.
    """
    tree = Tree(str(path))
    with reading(str(path)):
        is_directory = path.is_dir()
        inside = is_directory and spool.resolve().is_relative_to(path.resolve())
    if inside:
        raise BadInput(str(spool), f"lies inside the source {path}", "choose a directory outside of it")
    if is_directory:
        check_unchanged = read_directory(path, tree)
        yield Source(tree.source, tree.complete(), Suggested(ignored=tree.losses()))
        check_unchanged()
        return
    with open_file(path) as region, _reading_archive(region, tree, spool) as suggested:
        yield Source(tree.source, tree.complete(), suggested)


@contextmanager
def _reading_archive(region: Region, tree: Tree, spool: Path) -> Iterator[Suggested]:
    head = region.read_at(0, len(AR_MAGIC))
    if head == AR_MAGIC:
        with reading_deb(region, tree, spool) as suggested:
            yield suggested
    elif head.startswith(_ZIP_MAGICS):
        read_zip(region, tree)
        yield describe_wheel(tree)
    elif (codec := codec_of(region)) is not None:
        with spooled(region, codec, spool) as unpacked:
            read_tar(unpacked, tree)
            yield Suggested(ignored=tree.losses())
    elif is_tar(region):
        read_tar(region, tree)
        yield Suggested(ignored=tree.losses())
    else:
        remedy = "name a directory, a wheel or zip, a tar (plain, gzip, bzip2, xz or zstd), or a .deb"
        raise BadInput(tree.source, "is no archive of a known kind, or damaged at its beginning", remedy)
