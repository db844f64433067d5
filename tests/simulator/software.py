# SPDX-License-Identifier: Apache-2.0
"""Releases with real payloads and real deltas between them, for worlds whose other releases are only noise."""

import random
import shutil
from pathlib import Path

from seeds.fleet import Fleet
from seeds.services.building import PatchWish, build_patch
from seeds.services.deltas import add_deltas
from seeds.services.publishing import BuiltPatch
from signing.manifest import HealthPlan, Manifest
from tests.fakes.fake_health_probe import check_of

FILES, FILE_BYTES = 12, 40_000


def build_release(
    fleet: Fleet, workshop: Path, product: str, version: str, counter: int, *, segment: str, bases: tuple[Manifest, ...]
) -> BuiltPatch:
    """Files that do not compress; from one version to the next one of them changes. With a delta from each base."""
    source, into = workshop / f"{product}-{version}", workshop / "built"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    for number in range(FILES):
        seed = f"{product} {number} {version if number == counter % FILES else ''}"
        (source / f"part-{number:02}").write_bytes(random.Random(seed).randbytes(FILE_BYTES))  # noqa: S311
    (source / "version").write_text(version)
    wish = PatchWish(
        product=product,
        version=version,
        release_counter=counter,
        health=HealthPlan(checks=(check_of(product, version),), probation_seconds=60, interval_seconds=10),
    )
    authorities = {segment: fleet.read_segment_certificate(segment)}
    built, _ = build_patch(wish, source, into=into, segment_authorities=authorities)
    built, outcomes = add_deltas(
        built,
        bases,
        find_transport=lambda content: fleet.payloads / content.sha256,
        into=into,
        segment_authorities=authorities,
    )
    assert all(outcome.size is not None for outcome in outcomes), outcomes
    return built
