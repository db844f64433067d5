# SPDX-License-Identifier: Apache-2.0
"""The states of an attempt to which nothing happens, and what is told of them."""

from collections.abc import Sequence

from signing.report import InstallState

GOOD_WAY = [
    InstallState.FETCHING,
    InstallState.STAGED,
    InstallState.VERIFIED,
    InstallState.RESERVED,
    InstallState.INSTALLING,
    InstallState.PROBATION,
    InstallState.COMMITTED,
]


def is_good_way(told: Sequence[InstallState]) -> bool:
    """Whether that is told of such an attempt: in order, none twice, and how it ended; others may be left out."""
    return list(told) == [state for state in GOOD_WAY if state in told] and told[-1:] == GOOD_WAY[-1:]
