# SPDX-License-Identifier: Apache-2.0
"""The states of an attempt to which nothing happens."""

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
