# SPDX-License-Identifier: Apache-2.0
"""What stories about deltas ask of releases and endpoints."""

from pathlib import Path

from signing.manifest import Delta
from signing.policy import DeltaFallback, Limits
from tests.simulator.administrator import Release
from tests.simulator.endpoint import SimulatedEndpoint
from tests.simulator.world import World


def delta_of(release: Release, base: Release) -> Delta:
    (delta,) = (delta for delta in release.manifest.deltas if delta.base == base.manifest.payload)
    return delta


def file_of(endpoint: SimulatedEndpoint, sha256: str, release: Release) -> Path:
    return endpoint.payloads / sha256 / release.segment


def received(endpoint: SimulatedEndpoint) -> int:
    assert endpoint.attempt is not None
    return endpoint.attempt.bytes_lan + endpoint.attempt.bytes_origin + endpoint.attempt.bytes_web


def handed_over(endpoint: SimulatedEndpoint) -> str:
    """Digest in the name of the file that p2pd-install got last."""
    return endpoint.installer.transports[-1].parent.name


def set_fallback(world: World, fallback: DeltaFallback, bytes_allowed: int = 0) -> None:
    world.set_policy(limits=Limits(delta_fallback=fallback, delta_fallback_bytes=bytes_allowed))
