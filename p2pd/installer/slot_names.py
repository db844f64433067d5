# SPDX-License-Identifier: Apache-2.0
"""Names for unpacked releases, each used once: what is unpacked again never shares a directory with what was there."""

from p2pd.installer.installers import PackageInstaller
from signing.trust import VerifiedManifest


def fresh_slot(installer: PackageInstaller, manifest: VerifiedManifest) -> str:
    """A name for the release under which `installer` holds nothing."""
    name, number = f"{manifest.manifest.release_counter}-{manifest.sha256[:12]}", 1
    while installer.holds(name if number == 1 else f"{name}.{number}"):
        number += 1
    return name if number == 1 else f"{name}.{number}"
