# SPDX-License-Identifier: Apache-2.0
"""A site, its endpoints and their coordinator in one `trio.run` on a virtual clock.

    async with open_world(directory, fleet=template, clock=clock) as world:
        endpoints = await world.enrol(6)
        release = world.release("2.0")
        await world.until(lambda: all(endpoint.version == "2.0" for endpoint in endpoints))

Real are the agent (`p2pd.agent.run_parts`) with all its services and decisions, its files (trust state, journal, spool,
payloads), the signed repository, and the coordinator's services and database. Fake is what is outside of a process:
the swarm, mDNS, HTTP, p2pd-install, and the products whose health is checked.

The clock is `MockClock(autojump_threshold=0)`: whenever every task waits, it jumps to the next deadline. That is sound
only without threads, which look idle to it, so here blocking calls are made in place (`in_place`), and the fixture in
`tests/scenarios/conftest.py` makes any use of a thread an error.
"""
