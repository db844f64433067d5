# SPDX-License-Identifier: Apache-2.0
"""One endpoint's view of its site: the same evidence means the same order, for whoever looks."""

from collections.abc import Collection
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pd.decisions.ambassadors import Timing, rank
from p2pd.decisions.network_gates import Passage
from p2pd.piece_set import NO_PIECES, PieceSet
from p2pd.ports import Endpoint, TransferProgress, peer_id_of
from p2pd.services.site import Board, Identity, Link, Peer
from p2pd.services.swarm_view import DOUBT_AGAIN_SECONDS, SwarmView
from signing.budgets import GateAction
from signing.reasons import Reason
from signing.schedule import Member, Offer
from tests.p2pd.services.views import make_trusted

INFO_HASH, MANIFEST = "b" * 64, "a" * 64
SITE = tuple(f"desk-{number}" for number in range(24))
RANKED = rank(INFO_HASH, [Member(device=device) for device in SITE])
NOW = 100.0


def announced(device: str, *, is_aside: bool = False) -> Peer:
    return Peer(
        device=device,
        endpoint=Endpoint(host="10.0.0.1", port=7_681),
        mirror=None,
        info_hashes=frozenset([INFO_HASH]),
        has_other_state=False,
        tags=frozenset(),
        seen_at=0.0,
        is_aside=is_aside,
    )


def board_of(me: str, peers: Collection[Peer], lost: Collection[str] = ()) -> Board:
    """What `me` knows: it is a neighbour of those whom it has lost, and of nobody else."""
    trusted, board = make_trusted(members=SITE), Board()
    assert trusted.schedule is not None
    offer = Offer(product="app", version="1", release_counter=1, manifest_sha256=MANIFEST, open_rings=1)
    board.trusted.set(replace(trusted, schedule=replace(trusted.schedule, offers=(offer,))))
    board.listening_since.set(0.0)
    board.peers.set({peer.device: peer for peer in peers if peer.device != me})
    links = dict.fromkeys(SITE, Link(is_connected=False, reason=Reason.PEER_NOT_NEEDED))
    links |= dict.fromkeys(lost, Link(is_connected=False, reason=Reason.PEER_LOST))
    board.links.set({INFO_HASH: links})
    return board


def view_of(me: str, board: Board) -> SwarmView:
    identity = Identity(device=me, segment="default", site="hq")
    return SwarmView(
        info_hash=INFO_HASH,
        manifest_sha256=MANIFEST,
        board=board,
        identity=identity,
        timing=Timing(),
        began=0.0,
    )


def progress(have: PieceSet = NO_PIECES, peers: Collection[str] = ()) -> TransferProgress:
    return TransferProgress(
        piece_count=96,
        piece_bytes=1,
        total_bytes=96,
        have=have,
        peers_have=NO_PIECES,
        spread=NO_PIECES,
        on_disk=NO_PIECES,
        peers=tuple(map(peer_id_of, peers)),
        bytes_lan=0,
        is_complete=False,
    )


devices = st.sets(st.sampled_from(SITE))


@given(devices, devices, st.data())
def test_all_who_see_the_same_rank_alike_and_a_death_is_the_same_to_neighbours_and_others(
    dead: set[str], aside: set[str], data: st.DataObject
) -> None:
    living = [device for device in SITE if device not in dead]
    expected = tuple(device for device in RANKED if device in living and device not in aside)
    there = [announced(device, is_aside=device in aside) for device in living]
    departing = [announced(device, is_aside=device in aside) for device in dead]
    for me in living:
        board = board_of(me, [*there, *departing], lost=data.draw(st.sampled_from([dead, set()])))
        if me in aside:
            board.passage.set(Passage(action=GateAction.LAN_ONLY, reason=Reason.LINK_METERED))
        seen = view_of(me, board)
        before = seen.site(progress(), now=NOW).fetchers
        assert before in (expected, tuple(device for device in RANKED if device not in aside))
        board.peers.set({peer.device: peer for peer in there if peer.device != me})  # nobody answered for the dead
        assert seen.site(progress(), now=NOW + 1).fetchers == expected


def test_a_silent_one_is_doubted_by_those_who_do_not_see_it_and_not_all_the_time() -> None:
    me, near, far = RANKED[:3]
    seen = view_of(me, board_of(me, [announced(near), announced(far)]))
    seen.site(progress(peers=[near]), now=NOW)
    silent = frozenset([near, far])
    assert seen.doubtful(silent, now=NOW) == {far}
    assert seen.doubtful(silent, now=NOW + 1) == frozenset()
    assert seen.doubtful(silent, now=NOW + DOUBT_AGAIN_SECONDS) == {far}


@pytest.mark.parametrize("action", [GateAction.LAN_ONLY, GateAction.WAIT])
def test_who_is_barred_knows_why(action: GateAction) -> None:
    board = board_of(SITE[0], [])
    board.passage.set(Passage(action=action, reason=Reason.BATTERY_LOW, upload_reason=Reason.BATTERY_LOW))
    site = view_of(SITE[0], board).site(progress(), now=NOW)
    assert (site.barred, site.fetchers) == (Reason.BATTERY_LOW, ())
