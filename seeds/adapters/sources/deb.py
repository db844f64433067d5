# SPDX-License-Identifier: Apache-2.0
"""Debian packages as sources: the files of `data.tar` travel, what `control.tar` would have dpkg run does not.

python-debian reads ar headers and the control file. Its DebFile is not used: it decompresses zstd by running a
program, whole parts in memory, and follows an ar header with a negative size in a circle for ever.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from debian.arfile import ArMember
from debian.deb822 import Deb822

from seeds.adapters.sources.compression import codec_of, spooled
from seeds.adapters.sources.region import Region
from seeds.adapters.sources.suggestions import Suggested, printable
from seeds.adapters.sources.tar_archive import read_tar
from seeds.adapters.sources.tree import Tree, TreeBounds
from signing.bounds import MAX_PAYLOAD_BYTES
from signing.errors import BadInput

AR_MAGIC = b"!<arch>\n"
AR_HEADER_BYTES = 60
MAX_AR_MEMBERS = 16  # debian-binary, control.tar, data.tar; some tools add signatures
MAX_FORMAT_BYTES = 64
MAX_CONTROL_BYTES = 16 * 2**20  # md5sums of the largest packages take 10 MiB
MAX_CONTROL_FILE_BYTES = 1 << 20

_SUFFIXES = {"": None, ".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
_SCRIPTS = ("preinst", "postinst", "prerm", "postrm", "config")
_FETCH_AGAIN = "fetch the package again"


@contextmanager
def reading_deb(region: Region, tree: Tree, spool: Path) -> Iterator[Suggested]:
    """Put the files of the package in `region` into `tree`, readable while the block lasts; yield its own words.

    Absolute links are made relative: in a package they mean its own root. Raises BadInput, or DiskFull.
    """
    source = tree.source
    parts = _parts(region, source)
    version = parts.pop("debian-binary").read_at(0, MAX_FORMAT_BYTES)
    if not version.startswith(b"2."):
        raise BadInput(source, f"is a package of format {version!r}, not 2", "build it again with dpkg-deb")
    control = Tree(f"{source}: control.tar", TreeBounds(members=1_000, content_bytes=MAX_CONTROL_BYTES))
    with _tar(parts, "control.tar", source, spool, max_bytes=MAX_CONTROL_BYTES) as opened:
        read_tar(opened, control)
        suggested = _describe(control)
    with _tar(parts, "data.tar", source, spool) as opened:
        read_tar(opened, tree, of_package=True)
        yield replace(suggested, ignored=suggested.ignored + tree.losses())


def _parts(region: Region, source: str) -> dict[str, Region]:
    parts: dict[str, Region] = {}
    offset = len(AR_MAGIC)
    while (member := _ar_member(region, offset, source)) is not None:
        start, size = offset + AR_HEADER_BYTES, member.size
        if not 0 <= size <= region.size - start:
            raise BadInput(source, f"ends in the middle of {member.name!r}: truncated?", _FETCH_AGAIN)
        if member.name in parts or len(parts) == MAX_AR_MEMBERS:
            raise BadInput(source, f"holds {member.name!r} twice, or too many parts", _FETCH_AGAIN)
        parts[member.name] = region.part(start, size)
        offset = start + size + size % 2
    if next(iter(parts), None) != "debian-binary":
        raise BadInput(source, "is an ar archive, but no Debian package", "name a .deb, a zip, a tar or a directory")
    return parts


def _ar_member(region: Region, offset: int, source: str) -> ArMember | None:
    try:
        return ArMember.from_file(BytesIO(region.read_at(offset, AR_HEADER_BYTES)), None)
    except (OSError, ValueError) as problem:  # no header, or no number where one has to stand
        raise BadInput(source, f"has a damaged header at byte {offset} ({problem})", _FETCH_AGAIN) from None


@contextmanager
def _tar(
    parts: dict[str, Region], name: str, source: str, spool: Path, *, max_bytes: int = MAX_PAYLOAD_BYTES
) -> Iterator[Region]:
    found = [part for part in parts if part.startswith(name)]
    if len(found) != 1 or found[0].removeprefix(name) not in _SUFFIXES:
        problem = f"has {found or 'nothing'} for {name}, expected one of {', '.join(name + s for s in _SUFFIXES)}"
        raise BadInput(source, problem, "build it again with dpkg-deb -Zxz")
    packed, codec = parts[found[0]], _SUFFIXES[found[0].removeprefix(name)]
    if codec_of(packed) != codec:
        raise BadInput(source, f"{found[0]} is not compressed as its name says", _FETCH_AGAIN)
    if codec is None:
        yield packed
    else:
        with spooled(packed, codec, spool, max_bytes=max_bytes) as unpacked:
            yield unpacked


def _describe(control: Tree) -> Suggested:
    entry = control.get("control")
    if entry is None or not 0 < entry.size <= MAX_CONTROL_FILE_BYTES:
        raise BadInput(control.source, "has no control file, or one beyond all measure", _FETCH_AGAIN)
    try:
        fields = Deb822(b"".join(entry.read()).decode())
    except ValueError as problem:
        raise BadInput(f"{control.source}: 'control'", f"cannot be read ({problem})", _FETCH_AGAIN) from None
    for required in ("Package", "Version"):
        if not fields.get(required):
            raise BadInput(f"{control.source}: 'control'", f"has no field {required!r}", _FETCH_AGAIN)
    description = str(fields.get("Description", "")).partition("\n")[0]
    depends = ", ".join(str(fields[key]) for key in ("Pre-Depends", "Depends") if fields.get(key))
    return Suggested(
        product=printable(fields["Package"]),
        version=printable(fields["Version"]),
        architecture=printable(fields.get("Architecture")),
        depends=printable(depends),
        summary=printable(description),
        ignored=_ignored(control),
    )


def _ignored(control: Tree) -> tuple[str, ...]:
    ignored = []
    scripts = [name for name in _SCRIPTS if control.get(name) is not None]
    if scripts:
        ignored.append(f"maintainer scripts, which are not run: {', '.join(scripts)}")
    if (conffiles := control.get("conffiles")) is not None:
        count = len(b"".join(conffiles.read()).split(b"\n")) - 1
        ignored.append(f"conffiles, whose local changes are not merged: {count}")
    if control.get("triggers") is not None:
        ignored.append("triggers, which are not activated")
    return tuple(ignored)
