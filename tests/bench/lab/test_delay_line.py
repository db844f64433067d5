# SPDX-License-Identifier: Apache-2.0
"""Delay lines: packets keep their order and wait long enough, and a seed decides which are lost."""

import errno
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.lab import delay_line
from bench.lab.delay_line import Direction
from bench.lab.segments import VNET_HEADER


def frame(number: int) -> bytes:
    return bytes(VNET_HEADER.size) + number.to_bytes(8, "big") * 8


def numbers(frames: Sequence[bytes]) -> list[int]:
    return [int.from_bytes(data[-8:], "big") for data in frames]


def lossy(loss: float, seed: int = 1) -> tuple[Direction, list[bytes]]:
    written: list[bytes] = []
    direction = Direction(random.Random(seed), written.append)  # noqa: S311 (as the line does)
    direction.loss = loss
    return direction, written


steps = st.lists(st.tuples(st.floats(0, 0.01), st.floats(0, 0.1)), min_size=1, max_size=60)  # a pause, a new delay


@given(steps)
def test_order_is_kept_and_nothing_is_early_while_the_delay_changes(steps: list[tuple[float, float]]) -> None:
    direction, written = lossy(0)
    now, due = 0.0, []
    for number, (pause, delay) in enumerate(steps):
        now += pause
        direction.pass_on(now)
        direction.delay_seconds = delay
        direction.put(frame(number), now)
        due.append(now + delay)
        early = [other for other in numbers(written) if due[other] > now]
        assert early == []
    while direction.next_due is not None:
        direction.pass_on(direction.next_due)
    assert numbers(written) == list(range(len(steps)))


def test_a_seed_decides_which_packets_are_lost() -> None:
    def survivors(seed: int) -> list[int]:
        direction, written = lossy(0.05, seed)
        for number in range(10_000):
            direction.put(frame(number), 0.0)
        direction.pass_on(0.0)
        return numbers(written)

    assert survivors(1) == survivors(1)
    assert survivors(1) != survivors(2)
    assert len(survivors(1)) == pytest.approx(9_500, abs=100)


def test_a_device_that_is_cut_loses_packets_and_a_broken_one_is_an_error() -> None:
    codes = [errno.EIO, errno.EAGAIN, errno.EBADFD]

    def refuse(_: bytes) -> None:
        raise OSError(codes.pop(0), "refused")

    direction = Direction(random.Random(1), refuse)  # noqa: S311
    for number in range(3):
        direction.put(frame(number), float(number))
    direction.pass_on(1.0)
    with pytest.raises(OSError, match="refused"):
        direction.pass_on(2.0)


def test_what_does_not_fit_any_more_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delay_line, "_MAX_QUEUED_BYTES", 3 * len(frame(0)))
    direction, written = lossy(0)
    for number in range(5):
        direction.put(frame(number), 0.0)
    direction.pass_on(0.0)
    direction.put(frame(5), 0.0)
    direction.pass_on(0.0)
    assert numbers(written) == [0, 1, 2, 5]
