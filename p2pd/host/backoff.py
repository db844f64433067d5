# SPDX-License-Identifier: Apache-2.0
"""How long to wait before trying again: pure functions, chance is an argument."""

_LAST_DOUBLING = 64  # beyond it every cap is reached; without it 2.0 ** failures overflows after 1,024 failures


def restart_delay(failures: int, *, first_seconds: float = 1.0, cap_seconds: float = 60.0) -> float:
    """Seconds to wait after that many consecutive failures: doubling from `first_seconds`, never above `cap_seconds`.

    The first retry is quick, since most failures are blips; the cap keeps a long outage's recovery within a minute.
    """
    if failures <= 0:
        return 0.0
    return min(cap_seconds, first_seconds * 2.0 ** min(failures - 1, _LAST_DOUBLING))


def jittered(seconds: float, fraction: float, *, draw: float) -> float:
    """Spread `seconds` evenly over ± `fraction` of itself, so that a fleet does not come back in step.

    `draw` is a random number, 0 <= draw < 1, from the caller.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction {fraction} must be between 0 and 1")
    return seconds * (1 + fraction * (2 * draw - 1))
