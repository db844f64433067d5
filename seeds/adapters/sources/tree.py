# SPDX-License-Identifier: Apache-2.0
"""The whole content of a source, collected and bounded as it is read, in the one order that payloads have."""

from collections.abc import Iterator
from dataclasses import dataclass

from seeds.adapters.sources.entries import Entry, EntryKind
from seeds.adapters.sources.refusals import of_member
from signing.bounds import MAX_PAYLOAD_BYTES
from signing.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class TreeBounds:
    """How much a source may hold; each is checked before anything of that size is read or allocated."""

    members: int = 500_000  # directories included; what p2pd-install accepts
    content_bytes: int = MAX_PAYLOAD_BYTES
    name_bytes: int = 128 * 2**20  # of all paths and link targets together, held in memory


class Tree:
    """Entries by path. An empty path, the root, is never among them.

    Invariants after `complete`: every parent of an entry is an entry and a directory; no path stands twice.
    """

    def __init__(self, source: str, bounds: TreeBounds | None = None) -> None:
        self.source = source
        self._bounds = bounds or TreeBounds()
        self._entries: dict[str, Entry] = {}
        self._content_bytes = 0
        self._name_bytes = 0
        self._losses: dict[str, tuple[int, str]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def get(self, path: str) -> Entry | None:
        """The entry at `path` so far."""
        return self._entries.get(path)

    def add(self, entry: Entry) -> None:
        """Take `entry` in. Raises BadInput for a path that stands twice, and beyond the bounds."""
        if not entry.path and entry.kind is EntryKind.DIRECTORY:
            return
        known = self._entries.get(entry.path)
        if known is not None and known.kind is entry.kind is EntryKind.DIRECTORY:
            return  # archives that were appended to name directories again; there is nothing to contradict
        where = of_member(self.source, entry.path)
        if known is not None:
            raise BadInput(where, "stands twice in it", "leave one of them out")
        if entry.size < 0:
            raise BadInput(where, f"declares a size of {entry.size} bytes", "the archive is damaged: fetch it again")
        self._content_bytes += entry.size
        self._name_bytes += len(entry.path) + len(entry.target)
        self._check_bounds(where)
        self._entries[entry.path] = entry

    def complete(self) -> tuple[Entry, ...]:
        """All entries and all directories above them, sorted by the bytes of their paths. Raises BadInput."""
        for path in tuple(self._entries):
            for parent in _parents(path):
                known = self._entries.get(parent)
                if known is None:
                    self.add(Entry(parent, EntryKind.DIRECTORY))
                elif known.kind is not EntryKind.DIRECTORY:
                    what = "a symbolic link" if known.kind is EntryKind.SYMLINK else "a file"
                    raise BadInput(of_member(self.source, path), f"lies below {parent!r}, which is {what}")
                else:
                    break  # its own parents are, or will be, looked at from itself
        if not self._entries:
            raise BadInput(self.source, "is empty", "a payload has at least one file, directory or link")
        return tuple(sorted(self._entries.values(), key=lambda entry: entry.path.encode()))

    def lose(self, what: str, path: str) -> None:
        """Count something of the entry at `path` that a payload does not carry."""
        count, first = self._losses.get(what, (0, path))
        self._losses[what] = (count + 1, first)

    def losses(self) -> tuple[str, ...]:
        """What `lose` counted, a sentence each."""
        return tuple(f"{what}: {count}, first {first!r}" for what, (count, first) in sorted(self._losses.items()))

    def _check_bounds(self, where: str) -> None:
        bounds = self._bounds
        if len(self._entries) >= bounds.members:
            raise BadInput(self.source, f"has more than {bounds.members} members", "split the patch")
        if self._content_bytes > bounds.content_bytes:
            raise BadInput(where, f"brings the content to more than {bounds.content_bytes} bytes", "split the patch")
        if self._name_bytes > bounds.name_bytes:
            raise BadInput(self.source, f"has more than {bounds.name_bytes} bytes of names", "split the patch")


def _parents(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
