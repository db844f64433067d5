# SPDX-License-Identifier: Apache-2.0
"""A device with another segment's certificate, which claims to be of ours, gets no byte from the LAN.

Its daemon is the real one, and finds real peers: only its enrolment was forged. What it gets in the end, it gets from
the origin, where signed payloads are no secret.
"""

import json
import ssl

import httpx
import pytest

from p2pd.adapters.identity_files import IdentityFiles
from p2pd.config import AgentConfig
from p2pd.host.tls import client_context
from signing.policy import Ring
from tests.end_to_end.endpoint import Endpoint
from tests.end_to_end.fleet import FleetUnderTest, acquainted, start_all
from tests.end_to_end.template import SEGMENTS

RINGS = (Ring(name="canary", devices=("canary",)), Ring(name="everyone"))
OURS, OTHER = SEGMENTS


async def test_another_segments_certificate_opens_nothing(fleet: FleetUnderTest) -> None:
    fleet.use_rings(*RINGS)
    await fleet.start_coordinator()
    canary, neighbour = await fleet.enrolled("canary", "neighbour")
    (intruder,) = await fleet.enrolled("intruder", segment=OTHER)
    claim_to_be_of(OURS, intruder)
    intruder.configure(stall_seconds=1)  # it waits for those that would serve it, and then goes to the origin
    await start_all(canary, neighbour, intruder)
    await acquainted(canary, neighbour, intruder)
    release = await fleet.release("1.0", 1)

    seen = await neighbour.reaches(release, "committed")
    assert seen["bytes_lan"] >= release.size, "a true certificate opens everything"
    assert seen["bytes_origin"] == 0
    seen = await intruder.reaches(release, "committed")
    assert seen["bytes_lan"] == 0
    assert seen["bytes_origin"] >= release.size
    await intruder.sees_peers(2, shares=1)  # it knew whom to ask, and for what
    await a_mirror_refuses(canary, IdentityFiles(intruder.state), IdentityFiles(canary.state))


def claim_to_be_of(segment: str, endpoint: Endpoint) -> None:
    """Forge everything that a stolen device can forge: all but the certificate."""
    path = endpoint.state / "identity" / "enrolment.json"
    enrolment = json.loads(path.read_text())
    assert enrolment["segment"] != segment
    path.write_text(json.dumps({**enrolment, "segment": segment}))


async def a_mirror_refuses(endpoint: Endpoint, stranger: IdentityFiles, member: IdentityFiles) -> None:
    """Metadata on the LAN is for the segment, too."""
    url = f"https://{endpoint.address}:{AgentConfig.mirror_port}/metadata/timestamp.json"
    trusted = member.segment_ca.read_bytes()
    async with httpx.AsyncClient(verify=showing(member, trusted), trust_env=False) as client:
        assert (await client.get(url)).status_code == 200
    async with httpx.AsyncClient(verify=showing(stranger, trusted), trust_env=False) as client:
        with pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)):
            await client.get(url)


def showing(identity: IdentityFiles, ca_pem: bytes) -> ssl.SSLContext:
    context = client_context(ca_pem=ca_pem, certificate=identity.certificate, key=identity.key)
    context.check_hostname = False  # peers are dialled by address
    return context
