# SPDX-License-Identifier: Apache-2.0
"""Whom to ask for small payloads, which have no torrent: a peer, the origin, or nobody yet. Pure.

Payloads fall into STRIPES by their digest. In each stripe the live endpoints have an order of their own (weighted
rendezvous hashing, as for torrents). The first brings the stripe's payloads from the origin, once it has asked around
in vain; every other one asks its parent in the tree that the order makes (FAN_OUT children each). So nobody talks to
more than STRIPES parents, the work is spread over all, and the last of n has its bytes after log n steps.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from p2pd.decisions.ambassadors import Timing, Wait
from signing.reasons import Reason

STRIPES = 16
FAN_OUT = 4
ASK_AGAIN_SECONDS = 30.0  # before a peer that lacked something is asked for it again,
LAST_CALL_SECONDS = 3.0  # unless it is to be asked of the origin out of turn
MOST_ASKED = 8  # peers that say no, before what a stripe's first lacks counts as absent from the site


@dataclass(frozen=True, kw_only=True)
class StripeView:
    """One stripe's members as this endpoint sees them now. Moments are seconds on one monotonic clock."""

    me: str
    live: tuple[str, ...]  # those that are there, best first, `me` among them
    is_first: bool  # `me` is the best of all members, there or not
    is_whole: bool  # all members are there
    listening_since: float  # to the LAN
    last_progress: float  # when others last brought something, or there was something new to bring

    def __post_init__(self) -> None:
        if self.me not in self.live:
            raise ValueError(f"{self.me!r} must be among the living")


@dataclass(frozen=True, kw_only=True)
class AskPeer:
    """Ask `device`, which may take up to `wait_seconds` if it has nothing yet (0: it answers at once)."""

    device: str
    wait_seconds: float


@dataclass(frozen=True, kw_only=True)
class AskOrigin:
    """Nobody on the site has it. `reason` is set when it is not simply this endpoint's turn."""

    reason: Reason | None


def stripe_of(sha256: str) -> int:
    """The stripe of a payload, by its digest in hex."""
    return int(sha256[0], STRIPES)


def rank_key(stripe: int) -> str:
    """What `ambassadors.rank` orders the members of a stripe by."""
    return f"small payloads {stripe}"


def parent(me: str, live: Sequence[str]) -> str | None:
    """Whom `me` asks first in a stripe, given its live endpoints in order; None for the first of them."""
    position = live.index(me)
    return live[(position - 1) // FAN_OUT] if position else None


def choose_source(
    view: StripeView, *, lacked: Mapping[str, float], busy: Collection[str] = (), now: float, timing: Timing
) -> AskPeer | AskOrigin | Wait:
    """Where to get one payload of a stripe now.

    `lacked`: when peers last said, or showed, that they lack it. `busy` are those that are not asked at the moment,
    of whom nobody knows what they have: they are passed over, and count neither as lacking it nor as gone.

    A parent that brings nothing for `timing.stall` counts as lacking it, and the others are asked in its place. The
    origin is for the first of the living, and for whoever has seen nothing move for `timing.stall` times its place.
    """
    turn = _turn(view, now=now, timing=timing)
    is_out_of_turn = isinstance(turn, AskOrigin) and turn.reason is Reason.TOOK_OVER_STALLED
    patience = LAST_CALL_SECONDS if is_out_of_turn else ASK_AGAIN_SECONDS
    asked = {device for device, when in lacked.items() if now < when + patience}
    others = [device for device in view.live if device not in asked and device not in busy and device != view.me]
    if len(asked) >= MOST_ASKED:
        others = []
    above = parent(view.me, view.live)
    if isinstance(turn, Wait) and above is not None and others:
        wait_seconds = min(timing.stall, turn.until - now)
        return AskPeer(device=above if above in others else others[0], wait_seconds=wait_seconds)
    if others:  # before the origin is asked, and while discovery settles: somebody may have it already
        return AskPeer(device=others[0], wait_seconds=0)
    return turn


def _turn(view: StripeView, *, now: float, timing: Timing) -> AskOrigin | Wait:
    settled = view.listening_since + timing.settle
    if now < settled and not view.is_whole:
        return Wait(until=settled, reason=Reason.DISCOVERY_SETTLING)
    position = view.live.index(view.me)
    if position == 0:
        return AskOrigin(reason=None if view.is_first else Reason.AMBASSADORS_UNSEEN)
    my_turn = view.last_progress + timing.stall * position
    if now >= my_turn:
        return AskOrigin(reason=Reason.TOOK_OVER_STALLED)
    return Wait(until=my_turn, reason=Reason.WAITING_FOR_AMBASSADOR)
