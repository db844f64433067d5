# SPDX-License-Identifier: Apache-2.0
"""The newest root that is trusted here, kept so that a kill or a power cut at any instant cannot lose it.

The updater of python-tuf replaces `root.json` by removing it and making a symbolic link: killed in between, it
leaves none. So it is never asked to start from `root.json`, but from our own copy, which moves forward with every
root that the updater has verified. The copy has a directory of its own: `*.json` beside it are metadata of roles.
"""

from pathlib import Path

from tuf.api.metadata import Metadata, Root

from signing.durable_file import read_at_most, write_durably
from signing.errors import BadInput
from signing.tuf_errors import blamed

MAX_ROOT_BYTES = 512_000  # the updater's own default; Sigstore's root, with nine keys, has 6 KB


class TrustAnchor:
    """The trusted root of one metadata directory."""

    def __init__(self, metadata_dir: Path) -> None:
        self._metadata_dir = metadata_dir
        self.path = metadata_dir / "trust_anchor" / "root.json"

    def establish(self, root: bytes) -> None:
        """Trust `root` from now on. Doing so again with the same bytes changes nothing.

        Raises BadInput when `root` is no root metadata or another one is trusted here, and NotSigned when it is not
        signed by a threshold of its own keys.
        """
        version = _verified_version(root)
        kept = self.history_file(version)
        if self.path.exists():
            if not kept.exists() or read_at_most(kept, MAX_ROOT_BYTES) != root:
                remedy = "choose another directory, or delete this one to forget whom it trusts"
                raise BadInput(str(self._metadata_dir), "already trusts another root", remedy)
            return
        for directory in (kept.parent, self.path.parent):
            directory.mkdir(parents=True, exist_ok=True)
        write_durably(kept, root)
        write_durably(self._metadata_dir / "root.json", root)
        write_durably(self.path, root)  # last: from here on the directory is initialised

    def load(self) -> bytes:
        """The trusted root. Raises BadInput when there is none, or none that can be read."""
        try:
            return read_at_most(self.path, MAX_ROOT_BYTES)
        except FileNotFoundError:
            remedy = "initialise it with a root that you trust: enrol, or `p2pd trust init`"
            raise BadInput(str(self._metadata_dir), "holds no trusted root", remedy) from None

    def advance(self, version: int) -> None:
        """Move to the root `version`, which the updater has verified and written to its history."""
        root = read_at_most(self.history_file(version), MAX_ROOT_BYTES)
        if root != self.load():
            write_durably(self.path, root)

    def history_file(self, version: int) -> Path:
        """Where the updater keeps the root `version`."""
        return self._metadata_dir / "root_history" / f"{version}.root.json"


def _verified_version(root: bytes) -> int:
    if len(root) > MAX_ROOT_BYTES:
        raise BadInput("root.json", f"is {len(root)} bytes, at most {MAX_ROOT_BYTES} are allowed")
    with blamed("root.json"):
        metadata = Metadata.from_bytes(root)
        if not isinstance(metadata.signed, Root):
            raise BadInput("root.json", f"is {metadata.signed.type} metadata", "give the first root of the repository")
        metadata.signed.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)
    return metadata.signed.version
