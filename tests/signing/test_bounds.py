# SPDX-License-Identifier: Apache-2.0
"""Tests of signing.bounds."""

import pytest

from signing.bounds import (
    check_count,
    check_name,
    check_product,
    check_range,
    check_sha256,
    check_unique,
    check_version,
)


@pytest.mark.parametrize("name", ["a", "0", "host-1", "a.b_c-d", "x" * 63])
def test_names(name: str) -> None:
    check_name("device", name)


@pytest.mark.parametrize(
    "name",
    ["", "A", "-a", "a-", ".", "..", "a..b", "a.", "_a", "a/b", "a\\b", "a b", "a\n", "é", "a\0", "x" * 64, "../etc"],
)
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ValueError, match="device"):
        check_name("device", name)


@pytest.mark.parametrize("product", ["tzdata", "libstdc++6", "a.b", "0ad", "x" * 63])
def test_products(product: str) -> None:
    check_product("product", product)


@pytest.mark.parametrize("product", ["", "+a", "A", "a/b", "..", "a..b", "a\n", "a~b", "x" * 64])
def test_products_that_are_none(product: str) -> None:
    with pytest.raises(ValueError, match="product"):
        check_product("product", product)


@pytest.mark.parametrize("version", ["1", "2026.1", "1:2.3-4~bpo12+1", "v1_A", "x" * 64])
def test_versions(version: str) -> None:
    check_version("version", version)


@pytest.mark.parametrize("version", ["", ".1", "-1", "1/2", "1..2", "1\n", "1 2", "x" * 65])
def test_versions_that_are_none(version: str) -> None:
    with pytest.raises(ValueError, match="version"):
        check_version("version", version)


def test_digests() -> None:
    check_sha256("sha256", "0123456789abcdef" * 4)
    for wrong in ("", "A" * 64, "0" * 63, "0" * 65, "g" * 64, "0" * 64 + "\n"):
        with pytest.raises(ValueError, match="64 lower-case hexadecimal digits"):
            check_sha256("sha256", wrong)


def test_ranges_include_their_ends_and_no_nan() -> None:
    check_range("n", 1, 1, 3)
    check_range("n", 3, 1, 3)
    for wrong in (0, 4, float("nan"), float("inf"), float("-inf")):
        with pytest.raises(ValueError, match="must be between 1 and 3"):
            check_range("n", wrong, 1, 3)


def test_counts_include_their_ends() -> None:
    check_count("list", (), 2)
    check_count("list", (1, 2), 2, least=2)
    with pytest.raises(ValueError, match="list has 3 items, must have between 0 and 2"):
        check_count("list", (1, 2, 3), 2)
    with pytest.raises(ValueError, match="list has 0 items, must have between 1 and 2"):
        check_count("list", (), 2, least=1)


def test_uniqueness() -> None:
    check_unique("list", ("a", "b"))
    with pytest.raises(ValueError, match="list names something twice"):
        check_unique("list", ("a", "b", "a"))
