# SPDX-License-Identifier: Apache-2.0
"""Whether a verified release may be installed over what is there: pure rules over the product's record.

- Counters go up only. The same counter under another manifest is refused like an older one.
- The release that is active may be on probation still: a newer one takes its place, and goes back to what was committed
  before. That is how a fix arrives where a candidate failed and could not be undone.
- A release that forbids going back to what is committed (`oldest_fallback`) is refused: installing it would leave no
  legal way back from a failed probation. With nothing committed there is nothing to go back to, so it may come.
- Another installer than the active release's is refused: switching back would take two installers at once.
"""

from p2pd.installer.journal import ProductRecord
from p2pd.installer.refusal import InstallRefused
from signing.manifest import Manifest
from signing.reasons import Reason


def admit(record: ProductRecord, manifest: Manifest, manifest_sha256: str) -> None:
    """Raise InstallRefused unless the release may follow the active one. The record must be idle or on probation."""
    active, committed = record.active, record.committed
    if active is None or active.manifest_sha256 == manifest_sha256:
        return
    name = f"{manifest.product} {manifest.version}"
    there = f"{active.version} (counter {active.release_counter})"
    if manifest.release_counter < active.release_counter:
        raise InstallRefused(
            Reason.OLDER_THAN_INSTALLED, f"{name} has counter {manifest.release_counter}; installed is {there}"
        )
    if manifest.release_counter == active.release_counter:
        raise InstallRefused(
            Reason.OLDER_THAN_INSTALLED,
            f"{name} has counter {manifest.release_counter} too, but is another release than {there}; "
            "publish it with a higher counter",
        )
    if committed is not None and committed.release_counter < manifest.oldest_fallback:
        fallback = f"{committed.version} (counter {committed.release_counter})"
        raise InstallRefused(
            Reason.FALLBACK_FORBIDDEN,
            f"{name} may only go back to counter {manifest.oldest_fallback} or later; committed is {fallback}; "
            "install a release in between first",
        )
    if manifest.installer != record.installer:
        raise InstallRefused(
            Reason.INSTALLER_UNKNOWN,
            f"{name} asks for the installer {manifest.installer!r}, but {there} was installed by {record.installer!r}; "
            "a product cannot change its installer",
        )
