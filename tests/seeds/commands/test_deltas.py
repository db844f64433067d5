# SPDX-License-Identifier: Apache-2.0
"""`p2pctl patch build` makes deltas by itself, says what each is worth, and `show` lists every way to travel."""

import random
from pathlib import Path

import pytest

from seeds.fleet import Fleet
from tests.seeds.commands.test_p2pctl import P2pctl, ok, p2pctl, refused

__all__ = ["p2pctl"]  # a fixture


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    """Four versions of one program, which differ in a line."""
    found = []
    for version in range(1, 5):
        directory = tmp_path / f"app-{version}"
        directory.mkdir()
        (directory / "data").write_bytes(random.Random("app").randbytes(200_000))  # noqa: S311
        (directory / "version").write_text(f"{version}\n")
        found.append(directory)
    return found


def publish(p2pctl: P2pctl, version: str, source: Path, *options: str) -> dict[str, object]:
    built: dict[str, object] = ok(p2pctl("patch", "build", "app", version, source, "--json", *options))
    ok(p2pctl("patch", "sign", "--json"))
    ok(p2pctl("patch", "publish", "--json"))
    return built


def bases(built: dict[str, object]) -> list[tuple[str, bool]]:
    outcomes = built["built_deltas"]
    assert isinstance(outcomes, list)
    return [(outcome["base"], outcome["size"] is not None) for outcome in outcomes]


def test_deltas_come_by_themselves_from_the_two_newest(p2pctl: P2pctl, sources: list[Path], fleet: Fleet) -> None:
    assert bases(publish(p2pctl, "1", sources[0])) == []
    assert bases(publish(p2pctl, "2", sources[1])) == [("1", True)]
    assert bases(publish(p2pctl, "3", sources[2])) == [("2", True), ("1", True)]
    fourth = publish(p2pctl, "4", sources[3])
    assert bases(fourth) == [("3", True), ("2", True)]

    shown = ok(p2pctl("patch", "show", "app", "4", "--json"))
    assert [delta["base_version"] for delta in shown["deltas"]] == ["3", "2"]
    for delta in shown["deltas"]:
        assert (fleet.payloads / delta["content"]["sha256"]).stat().st_size == delta["content"]["size"] < 2_000
    lines = p2pctl("patch", "show", "app", "4").stdout.splitlines()
    (of_third,) = (line for line in lines if "hdiffpatch" in line and line.rstrip(" │").endswith(" 3"))
    assert "%" in of_third
    assert any("zstd" in line and "100.0%" in line for line in lines)


def test_the_table_says_what_each_base_gives(p2pctl: P2pctl, sources: list[Path], fleet: Fleet) -> None:
    first = publish(p2pctl, "1", sources[0])
    publish(p2pctl, "2", sources[1], "--no-delta")
    transports = first["transports"]
    assert isinstance(transports, list)
    (fleet.payloads / transports[0]["content"]["sha256"]).unlink()
    told = p2pctl("patch", "build", "app", "3", sources[2]).stdout
    assert "not on the shelf" in " ".join(told.split())
    (row,) = (line for line in told.splitlines() if line.startswith("│ 2 "))
    assert "%" in row


def test_bases_can_be_named_and_deltas_switched_off(p2pctl: P2pctl, sources: list[Path]) -> None:
    for version, source in enumerate(sources[:3], start=1):
        assert bases(publish(p2pctl, str(version), source, "--no-delta")) == []
    assert bases(publish(p2pctl, "4", sources[3], "--base", "app@1")) == [("1", True)]
    fifth = ok(p2pctl("patch", "build", "app", "5", sources[0], "--newest-bases", "1", "--json"))
    assert bases(fifth) == [("4", True)]
    refused(p2pctl("patch", "build", "app", "6", sources[0], "--base", "app@9"), "app@9", "patch list")
    refused(p2pctl("patch", "build", "app", "6", sources[0], "--base", "1"), "app@VERSION")


def test_a_withdrawn_release_is_no_base(p2pctl: P2pctl, sources: list[Path]) -> None:
    publish(p2pctl, "1", sources[0])
    ok(p2pctl("patch", "withdraw", "app", "1", "--why", "it eats files", "--json"))
    assert bases(publish(p2pctl, "2", sources[1])) == []
