# SPDX-License-Identifier: Apache-2.0
"""What a person kept is told against the same sender's runs alone, in medians."""

from bench.foreground import ALONE, Measurement, table, with_shares


def measured(sender: str, beside: str, rate: float, seconds: float | None = None) -> Measurement:
    """One run in which the patch came first."""
    return Measurement(
        sender=sender, beside=beside, person_first=False, person_bits_per_second=rate, patch_seconds=seconds
    )


RUNS = [
    measured("cubic", ALONE, 50e6),
    measured("cubic", ALONE, 48e6),
    measured("cubic", ALONE, 10e6),
    measured("cubic", "p2pd", 45.6e6, 20.0),
    measured("cubic", "p2pd", 48e6, 30.0),
    measured("bbr", ALONE, 40e6),
    measured("bbr", "p2pd", 10e6),
]


def test_shares_are_of_the_median_alone_with_the_same_sender() -> None:
    shares = [run.kept for run in with_shares(RUNS) if run.beside == "p2pd"]
    assert shares == [0.95, 1.0, 0.25]


def test_the_table_has_a_row_for_each_case() -> None:
    rows = table(with_shares(RUNS)).splitlines()[2:]
    assert rows == [
        "| cubic | nothing | - | 48.0 (10.0 to 50.0) Mbit/s | - |",
        "| cubic | p2pd | patch | 98 (95 to 100) % | 25.0 (20.0 to 30.0) s |",
        "| bbr | nothing | - | 40.0 Mbit/s | - |",
        "| bbr | p2pd | patch | 25 % | not at all |",
    ]
