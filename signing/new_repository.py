# SPDX-License-Identifier: Apache-2.0
"""A fleet's repository from nothing: built beside its final name, and renamed when it is whole."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Metadata, Targets

from signing.durable_file import flush
from signing.edition import add_signature
from signing.errors import BadInput
from signing.key_sets import check_fleet_keys, first_delegations, first_root
from signing.next_edition import OnlineSigners, first_edition
from signing.repository_files import RepositoryFiles, describe
from signing.roles import ROLES, check_target, role_named


def write_new_repository(
    directory: Path,
    *,
    keys: Mapping[str, Sequence[Key]],
    thresholds: Mapping[str, int],
    signers: Mapping[str, Sequence[Signer]],
    targets: Mapping[str, Mapping[str, bytes]],
    now: datetime,
) -> None:
    """Sign and write the first edition. Roles without a threshold get the table's.

    Raises BadInput, NotSigned and KeyUnavailable, and then `directory` is as it was.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise BadInput(str(directory), "exists and is not an empty directory", "choose another place")
    all_thresholds = {name: role.threshold for name, role in ROLES.items()} | dict(thresholds)
    check_fleet_keys(keys, all_thresholds)
    for name, of_role in targets.items():
        for path in of_role:
            check_target(role_named(name), path)
    root = Metadata(first_root(keys, all_thresholds, expires=now + ROLES["root"].lifetime))
    roles = {}
    for name, role in ROLES.items():
        if role.signs_targets:
            described = {path: describe(path, data) for path, data in targets.get(name, {}).items()}
            delegations = first_delegations(keys, all_thresholds) if name == "targets" else None
            roles[name] = Metadata(
                Targets(version=1, expires=now + role.lifetime, targets=described, delegations=delegations)
            )
    for signer in signers.get("root", ()):
        add_signature(root, signer)
    for name, metadata in roles.items():
        for signer in signers.get(name, ()):
            add_signature(metadata, signer)
    online = OnlineSigners(snapshot=_only(signers, "snapshot"), timestamp=_only(signers, "timestamp"))
    edition = first_edition(root, roles, signers=online, now=now)

    directory.parent.mkdir(parents=True, exist_ok=True)
    scaffold = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}."))
    try:
        scaffold.chmod(0o755)  # what a web server serves; mkdtemp made it 0700
        files = RepositoryFiles(scaffold)
        contents = {
            files.target_file(roles[name].signed.targets[path]): data
            for name, of_role in targets.items()
            for path, data in of_role.items()
        }
        for subdirectory in (files.metadata, files.targets):
            subdirectory.mkdir()
        files.install(edition, changed=ROLES, targets=contents)
        flush(scaffold)
        scaffold.rename(directory)
        flush(directory.parent)
    except BaseException:
        shutil.rmtree(scaffold, ignore_errors=True)
        raise


def _only(signers: Mapping[str, Sequence[Signer]], role: str) -> Signer:
    of_role = signers.get(role, ())
    if len(of_role) != 1:
        raise BadInput(f"role {role}", f"has {len(of_role)} signers", "an online role is signed by one key")
    return of_role[0]
