# SPDX-License-Identifier: Apache-2.0
"""A site, its endpoints and their coordinator in one `trio.run` on a virtual clock (see `virtual_time`).

    async with open_world(directory, fleet_directory) as world:
        endpoints = await world.enrol(6)
        release = world.release("1.0")
        await world.all_committed(release)

Real are the agent (`p2pd.agent.run_parts`) with all its services and decisions, its files (trust state, journal, spool,
payloads), the signed repository, and the coordinator's services and database. Fake is what is outside of a process:
the swarm, mDNS, HTTP, p2pd-install, and the products whose health is checked.
"""
