# SPDX-License-Identifier: Apache-2.0
"""The recall list: releases withdrawn for good, signed by the `recalls` role, only ever growing."""

from dataclasses import dataclass
from typing import ClassVar

from signing.bounds import (
    MAX_COUNTER,
    MAX_TEXT_CHARS,
    check_count,
    check_product,
    check_range,
    check_sha256,
    check_version,
)

RECALL_TARGET = "recalls/list"
MAX_RECALLS = 10_000


@dataclass(frozen=True, kw_only=True)
class Recall:
    """One withdrawn release and why, in the administrator's words."""

    product: str
    version: str
    manifest_sha256: str
    why: str

    def __post_init__(self) -> None:
        check_product("product", self.product)
        check_version("version", self.version)
        check_sha256("manifest_sha256", self.manifest_sha256)
        check_count("why", self.why, MAX_TEXT_CHARS, least=1)


@dataclass(frozen=True, kw_only=True)
class RecallList:
    """All recalls so far; `version` grows with every addition."""

    document: ClassVar[str] = "p2pd.recalls"
    major: ClassVar[int] = 1
    minor: ClassVar[int] = 0
    max_bytes: ClassVar[int] = 8 * 2**20

    version: int
    recalls: tuple[Recall, ...] = ()

    def __post_init__(self) -> None:
        check_range("version", self.version, 1, MAX_COUNTER)
        check_count("recalls", self.recalls, MAX_RECALLS)

    def withdraws(self, manifest_sha256: str) -> Recall | None:
        """The recall of that manifest, or None."""
        return next((recall for recall in self.recalls if recall.manifest_sha256 == manifest_sha256), None)
