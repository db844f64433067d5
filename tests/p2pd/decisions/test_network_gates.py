# SPDX-License-Identifier: Apache-2.0
"""Metered links, VPNs and low batteries close gates, each with its reason; what is not known closes none."""

from hypothesis import given
from hypothesis import strategies as st

from p2pd.decisions.network_gates import Passage, passage
from p2pd.ports_network import HostFacts
from signing.budgets import OPEN_GATES, GateAction, NetworkGates
from signing.reasons import Reason, is_passing

gates = st.builds(
    NetworkGates,
    metered=st.sampled_from(GateAction),
    vpn=st.sampled_from(GateAction),
    battery=st.sampled_from(GateAction),
    battery_percent=st.floats(0, 100),
    vpn_uploads=st.booleans(),
    battery_uploads=st.booleans(),
)
unknown_or_not = st.sampled_from([None, False, True])
facts = st.builds(
    HostFacts,
    is_metered=unknown_or_not,
    is_vpn=unknown_or_not,
    battery_percent=st.none() | st.floats(0, 100),
)


def test_by_default_a_metered_link_is_spared_and_batteries_and_vpns_give_nothing() -> None:
    default = [NetworkGates(), OPEN_GATES]
    assert passage(default, HostFacts(is_metered=True)) == Passage(
        action=GateAction.LAN_ONLY, reason=Reason.LINK_METERED
    )
    assert passage(default, HostFacts(is_vpn=True)) == Passage(upload_reason=Reason.LINK_VPN)
    assert passage(default, HostFacts(battery_percent=40)) == Passage(upload_reason=Reason.BATTERY_LOW)
    assert passage(default, HostFacts(battery_percent=41)) == Passage()


@given(gates, facts)
def test_whatever_is_closed_has_a_reason_that_passes(gate: NetworkGates, now: HostFacts) -> None:
    found = passage([gate], now)
    assert (found.reason is not None) == (not found.may_fetch)
    assert found.reason is None or is_passing(found.reason)
    assert found.upload_reason is None or is_passing(found.upload_reason)
    assert found.may_download or not found.may_upload  # waiting is for both


@given(gates, gates, facts)
def test_another_gate_never_opens_anything(first: NetworkGates, second: NetworkGates, now: HostFacts) -> None:
    alone, both = passage([first], now), passage([second, first], now)
    assert alone.may_fetch >= both.may_fetch
    assert alone.may_download >= both.may_download
    assert alone.may_upload >= both.may_upload


@given(gates)
def test_what_is_not_known_closes_nothing(gate: NetworkGates) -> None:
    assert passage([gate], HostFacts()) == Passage()
