# SPDX-License-Identifier: Apache-2.0
"""What a device's latest report about a release means for its rollout. Pure.

Only what speaks about the release counts against it: a full disk, or an installer that does not answer, is one
endpoint's passing trouble, so the rollout waits for that endpoint instead of stopping for everyone.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum

from seeds.records import UNDONE, Said
from signing.reasons import Reason, is_passing
from signing.report import InstallState

SILENT = "silent"  # in place of a reason: the device has sent no report about the release


class Standing(StrEnum):
    """What a device is to a rollout."""

    COMMITTED = "committed"
    FAILED = "failed"
    FORGIVEN = "forgiven"  # failed, but an administrator resumed the rollout in spite of it: no evidence either way
    PENDING = "pending"  # it has said nothing that counts yet


def standing(said: Said | None) -> Standing:
    """Where a device stands that has said `said`; None: it has said nothing."""
    if said is None:
        return Standing.PENDING
    if said.state is InstallState.COMMITTED:
        return Standing.COMMITTED
    if not _speaks_against(said):
        return Standing.PENDING
    return Standing.FORGIVEN if said.forgiven else Standing.FAILED


def failing(said: Mapping[str, Said]) -> tuple[str, ...]:
    """Names of the devices whose reports count against the release. Sorted."""
    return tuple(sorted(device for device, words in said.items() if standing(words) is Standing.FAILED))


def tally(devices: Iterable[str], said: Mapping[str, Said]) -> dict[Standing, Counter[str]]:
    """How many devices stand where, and why: by reason, by state where none was given, or `SILENT`."""
    found: dict[Standing, Counter[str]] = {place: Counter() for place in Standing}
    for device in devices:
        words = said.get(device)
        found[standing(words)][SILENT if words is None else (words.reason or words.state).value] += 1
    return found


def _speaks_against(said: Said) -> bool:
    # A device that rolls back has failed its health check: waiting for it to finish would only let more install.
    # After a recall going back is what was asked for. A failed attempt that gives no reason counts as a failure.
    if said.state not in UNDONE or said.reason is Reason.RECALLED:
        return False
    return said.state is not InstallState.FAILED or not is_passing(said.reason)
