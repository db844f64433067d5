# SPDX-License-Identifier: Apache-2.0
"""All range requests of this endpoint share the WAN link by the severity of what they bring."""

from collections.abc import Callable
from dataclasses import replace

from p2pd.decisions.request_window import FIRST_REQUESTS
from p2pd.decisions.sharing import WEIGHTS, Claim, joined, may_begin
from signing.manifest import Severity


class OriginSharing:
    """One for all transfers of an agent."""

    def __init__(self) -> None:
        self._claims: dict[Share, Claim] = {}

    def join(self, severity: Severity, *, on_room: Callable[[], None]) -> "Share":
        """A share for one transfer, until `leave`. `on_room` is called when it may ask again, having been denied."""
        share = Share(self, on_room)
        self._claims[share] = Claim(weight=WEIGHTS[severity])
        return share

    @property
    def most_requests(self) -> int:
        """How many requests are known to fill the link."""
        return max((claim.limit for claim in self._claims.values() if claim.is_active), default=FIRST_REQUESTS)

    def claim(self, share: "Share") -> Claim:
        """For shares."""
        return self._claims[share]

    def set(self, share: "Share", claim: Claim) -> None:
        """For shares."""
        before = self._claims.get(share)
        if before is not None and claim.is_active and not before.is_active:
            others = {other: known for other, known in self._claims.items() if other is not share}
            claim = joined(claim, others)
        self._claims[share] = claim
        if before is not None and (claim.under_way < before.under_way or (before.wants and not claim.wants)):
            self._tell(share)

    def leave(self, share: "Share") -> None:
        """For shares."""
        if self._claims.pop(share, None) is not None:
            self._tell(share)

    def is_outranked(self, share: "Share") -> bool:
        """For shares."""
        mine = self._claims[share]
        return any(claim.wants and claim.weight > mine.weight for claim in self._claims.values())

    def may_begin(self, share: "Share") -> bool:
        """For shares."""
        return may_begin(share, self._claims)

    def _tell(self, mover: "Share") -> None:
        for share in list(self._claims):
            if share is not mover and share.was_denied:
                share.was_denied = False
                share.on_room()


class Share:
    """One transfer's part in an `OriginSharing`; made by its `join`."""

    def __init__(self, sharing: OriginSharing, on_room: Callable[[], None]) -> None:
        self._sharing = sharing
        self.on_room = on_room
        self.was_denied = False

    def may_begin(self, limit: int) -> bool:
        """Whether one more request may be made now, of at most `limit` in all; from now on it is wanted."""
        self._change(wants=True, limit=limit)
        allowed = self._sharing.may_begin(self)
        self.was_denied = not allowed
        return allowed

    def want(self, *, wants: bool) -> None:
        """Whether this site fetches something of the transfer, or would: then less severe ones stand back."""
        self.was_denied = self.was_denied and wants
        self._change(wants=wants)

    def begin(self) -> None:
        """A request was begun."""
        self._change(under_way=self._claim.under_way + 1)

    def end(self) -> None:
        """It has ended."""
        self._change(under_way=self._claim.under_way - 1)

    def charge(self, count: int) -> None:
        """So many bytes have come, over whatever link."""
        self._change(spent=self._claim.spent + count / self._claim.weight)

    def leave(self) -> None:
        """The transfer is over."""
        self._sharing.leave(self)

    @property
    def is_outranked(self) -> bool:
        """Whether the site fetches something more severe, so that little of this comes, wherever it is fetched."""
        return self._sharing.is_outranked(self)

    @property
    def _claim(self) -> Claim:
        return self._sharing.claim(self)

    def _change(self, **changes: object) -> None:
        claim = self._claim
        changed = replace(claim, **changes)  # type: ignore[arg-type]  # by the methods above, with the fields' types
        if changed != claim:
            self._sharing.set(self, changed)
