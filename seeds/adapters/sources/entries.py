# SPDX-License-Identifier: Apache-2.0
"""What a payload is made of, whatever it came from: entries, and the rules that their names and links obey.

The rules are those of p2pd-install, which refuses a payload that breaks them: what is built can be installed.
"""

import posixpath
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from seeds.adapters.sources.refusals import of_member
from signing.errors import BadInput

MAX_PART_BYTES = 255  # NAME_MAX
MAX_PATH_BYTES = 3_072  # leaves room for the directory that it is installed into, below PATH_MAX (4,096)
MAX_DEPTH = 64

_SPECIAL_BITS = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX


class EntryKind(Enum):
    """What a payload may hold."""

    FILE = auto()
    DIRECTORY = auto()
    SYMLINK = auto()


def _nothing() -> Iterator[bytes]:
    return iter(())


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, directory or symbolic link; `path` is relative, its parts joined by slashes.

    `size` is what the source declares; whoever calls `read` checks that as many bytes come out, and stops if more do.
    """

    path: str
    kind: EntryKind
    executable: bool = False
    size: int = 0
    target: str = ""
    read: Callable[[], Iterator[bytes]] = _nothing


def entry_path(raw: bytes, source: str, *, is_directory: bool = False) -> str:
    """The path of a member named `raw`; "" for the root itself. Raises BadInput if the name is not plain.

    One "./" at the beginning is what tar writes for its working directory, and stands for nothing.
    """
    where = of_member(source, raw)
    name = _text(raw, where)
    if is_directory:
        name = name.removesuffix("/")
    if is_directory and name == ".":
        return ""
    name = name.removeprefix("./")
    parts = name.split("/")
    if name.startswith("/"):
        raise BadInput(where, "is an absolute path", "pack it relative to the directory that it is in")
    if ".." in parts:
        raise BadInput(where, "leaves the tree by '..'", "pack it from inside of the directory")
    if "" in parts or "." in parts:
        raise BadInput(where, "has an empty part or '.' in its path", "pack it again with plain paths")
    if "\\" in name or parts[0][1:2] == ":":
        remedy = "rename it, or pack it again with '/' between plain names"
        raise BadInput(where, "reads as a path of another system (a backslash or a drive letter)", remedy)
    if len(name.encode()) > MAX_PATH_BYTES or len(parts) > MAX_DEPTH:
        raise BadInput(where, f"is deeper than {MAX_DEPTH} directories or longer than {MAX_PATH_BYTES} bytes")
    if any(len(part.encode()) > MAX_PART_BYTES for part in parts):
        raise BadInput(where, f"has a part longer than {MAX_PART_BYTES} bytes", "shorten the name")
    return name


def link_target(raw: bytes, path: str, source: str, *, absolute_is_root: bool = False) -> str:
    """The target of the symbolic link at `path`: relative and inside the tree. Raises BadInput.

    `absolute_is_root`: an absolute target means the tree's own root, and is made relative to it.
    """
    where = of_member(source, path)
    target = _text(raw, where)
    if not target or len(raw) > MAX_PATH_BYTES:
        raise BadInput(where, f"links to a target of {len(raw)} bytes, must be 1-{MAX_PATH_BYTES}")
    if target.startswith("/") and absolute_is_root:
        target = _from_root(target, path)
    if target.startswith("/"):
        raise BadInput(where, f"links to the absolute path {target!r}", "make the link relative, or leave it out")
    # ".." only at the beginning: there it means real directories, since nothing lies below a link. After a name it
    # would mean the parent of wherever that name leads, which text alone cannot tell (d/up -> ..; link -> d/up/..).
    parts = [part for part in target.split("/") if part not in ("", ".")]
    ups = next((index for index, part in enumerate(parts) if part != ".."), len(parts))
    if ".." in parts[ups:]:
        raise BadInput(where, f"links to {target!r}; '..' is allowed at the beginning only", "shorten the target")
    if ups > path.count("/"):
        raise BadInput(where, f"links to {target!r}, outside of the tree", "point it inside, or leave it out")
    return target


def refuse_special_bits(mode: int, where: str) -> None:
    """Raise BadInput for a file that would run as somebody else, or is sticky."""
    if mode & _SPECIAL_BITS:
        remedy = "take the bit off; what must run as root is a unit's or a capability's business"
        raise BadInput(where, f"has mode {stat.S_IMODE(mode):04o}: set-id and sticky files are not carried", remedy)


def is_executable(mode: int) -> bool:
    """Whether the owner may execute it: the one bit of a mode that no umask takes away."""
    return bool(mode & stat.S_IXUSR)


def _text(raw: bytes, where: str) -> str:
    if b"\0" in raw:
        raise BadInput(where, "has a NUL byte in its name or target")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise BadInput(where, "is not UTF-8", "rename it, or pack it again with UTF-8 names") from None


def _from_root(target: str, path: str) -> str:
    if ".." in target.split("/"):
        return target  # stays absolute, and is refused as such
    return posixpath.relpath(posixpath.normpath(target), posixpath.join("/", posixpath.dirname(path)))
