# SPDX-License-Identifier: Apache-2.0
"""The file of results holds the newest run of each size and contender."""

from dataclasses import asdict, replace

from bench.small_payloads import Result, merged

OLD = Result(
    scene="small-payloads",
    contender="p2pd",
    count=300,
    endpoints=5,
    payload_bytes=1,
    seconds=20.0,
    cpu_seconds=18.0,
    copies=1.0,
    prepare_seconds=0.0,
)


def test_a_run_takes_the_place_of_its_own_size_only() -> None:
    other, larger, new = replace(OLD, contender="libtorrent"), replace(OLD, count=1_000), replace(OLD, seconds=10.0)
    kept = [asdict(larger), asdict(OLD), asdict(other)]
    assert merged(kept, [new]) == [asdict(other), asdict(new), asdict(larger)]
    assert merged([], [larger]) == [asdict(larger)]
