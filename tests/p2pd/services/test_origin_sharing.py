# SPDX-License-Identifier: Apache-2.0
"""Transfers of one endpoint take turns at the origin, and whoever was denied hears when it may ask again."""

from p2pd.decisions.request_window import FIRST_REQUESTS
from p2pd.services.origin_sharing import OriginSharing, Share
from signing.manifest import Severity


class Stage:
    def __init__(self) -> None:
        self.sharing = OriginSharing()
        self.told: list[str] = []

    def join(self, name: str, severity: Severity) -> Share:
        return self.sharing.join(severity, on_room=lambda: self.told.append(name))


def test_alone_a_transfer_makes_as_many_requests_as_it_likes() -> None:
    stage = Stage()
    low = stage.join("low", Severity.LOW)
    assert stage.sharing.most_requests == FIRST_REQUESTS
    for _ in range(5):
        assert low.may_begin(5)
        low.begin()
    assert not low.may_begin(5)
    assert stage.sharing.most_requests == 5, "which is where the next transfer begins"


def test_a_critical_transfer_gets_the_next_request_and_the_other_hears_when_it_is_over() -> None:
    stage = Stage()
    low, critical = stage.join("low", Severity.LOW), stage.join("critical", Severity.CRITICAL)
    assert low.may_begin(1)
    low.begin()
    assert not critical.may_begin(1)
    assert low.is_outranked
    assert not critical.is_outranked
    low.charge(2**20)
    low.end()
    assert stage.told == ["critical"]
    assert not low.may_begin(1)
    assert critical.may_begin(1)
    critical.begin()
    critical.charge(2**20)
    critical.end()
    assert stage.told == ["critical", "low"]
    assert not low.may_begin(1)
    critical.want(wants=False)
    assert stage.told == ["critical", "low", "low"]
    assert low.may_begin(1)
    assert not low.is_outranked


def test_what_others_bring_of_a_critical_patch_holds_the_rest_back_and_counts() -> None:
    stage = Stage()
    low, critical = stage.join("low", Severity.LOW), stage.join("critical", Severity.CRITICAL)
    critical.want(wants=True)
    assert not low.may_begin(2)
    critical.charge(64 * 2**20)
    assert low.may_begin(2)
    low.charge(2**20)
    assert not low.may_begin(2)


def test_a_transfer_that_is_over_takes_nothing_with_it() -> None:
    stage = Stage()
    low, critical = stage.join("low", Severity.LOW), stage.join("critical", Severity.CRITICAL)
    assert critical.may_begin(1)
    assert not low.may_begin(1)
    critical.leave()
    assert stage.told == ["low"]
    assert low.may_begin(1)
    critical.leave()
    assert stage.told == ["low"]
