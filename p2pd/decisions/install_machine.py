# SPDX-License-Identifier: Apache-2.0
"""The life of one release on one endpoint: everything that affects its state transitions lives in this file.

    fetching -> staged -> verified -> reserved -> installing -> probation -> committed
        |          |          |           |            |            |            |
        +----------+----------+-----------+---> failed <+      rolling_back <----+ (recall only)
                                                                    |
                                                       rolled_back or failed

This file does no I/O and knows no clock. The caller makes each new state durable before it acts upon it.
"""

from enum import StrEnum

from signing.reasons import Reason, is_passing
from signing.report import InstallState


class Event(StrEnum):
    """What can happen to an attempt."""

    BYTES_ON_DISK = "bytes_on_disk"  # every piece flushed
    DIGEST_MATCHED = "digest_matched"  # read back and hashed by us
    FALLBACK_HELD = "fallback_held"  # the version to return to is on disk, or none was there before
    INSTALL_BEGUN = "install_begun"
    INSTALLED = "installed"
    PROVED_HEALTHY = "proved_healthy"
    PROVED_UNHEALTHY = "proved_unhealthy"
    RECALLED = "recalled"
    RESTORED = "restored"
    RESTORE_FAILED = "restore_failed"
    GAVE_UP = "gave_up"  # before anything was installed, or the installer refused and left everything as it was


class IllegalTransitionError(Exception):
    """A bug of ours: that event cannot happen in that state."""


_S, _E = InstallState, Event

TRANSITIONS: dict[tuple[InstallState, Event], InstallState] = {
    (_S.FETCHING, _E.BYTES_ON_DISK): _S.STAGED,
    (_S.STAGED, _E.DIGEST_MATCHED): _S.VERIFIED,
    (_S.VERIFIED, _E.FALLBACK_HELD): _S.RESERVED,
    (_S.RESERVED, _E.INSTALL_BEGUN): _S.INSTALLING,
    (_S.INSTALLING, _E.INSTALLED): _S.PROBATION,
    (_S.PROBATION, _E.PROVED_HEALTHY): _S.COMMITTED,
    (_S.PROBATION, _E.PROVED_UNHEALTHY): _S.ROLLING_BACK,
    (_S.PROBATION, _E.RECALLED): _S.ROLLING_BACK,
    (_S.COMMITTED, _E.RECALLED): _S.ROLLING_BACK,
    (_S.ROLLING_BACK, _E.RESTORED): _S.ROLLED_BACK,
    (_S.ROLLING_BACK, _E.RESTORE_FAILED): _S.FAILED,
    (_S.FETCHING, _E.GAVE_UP): _S.FAILED,
    (_S.STAGED, _E.GAVE_UP): _S.FAILED,
    (_S.VERIFIED, _E.GAVE_UP): _S.FAILED,
    (_S.RESERVED, _E.GAVE_UP): _S.FAILED,
    (_S.INSTALLING, _E.GAVE_UP): _S.FAILED,
}


def step(state: InstallState, event: Event) -> InstallState:
    """The state after `event` in `state`. Raises IllegalTransitionError."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransitionError(f"{event.value!r} while {state.value!r}") from None


def quarantines(state: InstallState, reason: Reason | None) -> bool:
    """Whether an attempt that stands so must never be repeated on this endpoint.

    From the moment that it has to go back, so that no failure on the way makes anybody forget why.
    """
    if state in (InstallState.ROLLING_BACK, InstallState.ROLLED_BACK):
        return True
    return state is InstallState.FAILED and not is_passing(reason)
