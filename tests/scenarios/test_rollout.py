# SPDX-License-Identifier: Apache-2.0
"""A release goes through the rings."""

from tests.simulator.world import World


async def test_a_release_reaches_the_canary_first_and_then_everyone(world: World) -> None:
    endpoints = await world.enrol(6)
    release = world.release("1.0")
    await world.all_committed(release)
