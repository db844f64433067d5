# SPDX-License-Identifier: Apache-2.0
"""What an endpoint may do on the network and the power that it has now. Pure: the facts are arguments."""

from collections.abc import Iterable
from dataclasses import dataclass

from p2pd.ports_network import HostFacts
from signing.budgets import GateAction, NetworkGates
from signing.reasons import Reason

_STRICTNESS = (GateAction.ALLOW, GateAction.LAN_ONLY, GateAction.WAIT)


@dataclass(frozen=True, kw_only=True)
class Passage:
    """What is allowed; where something is not, `reason` says why, and `upload_reason` why peers get nothing."""

    action: GateAction = GateAction.ALLOW
    reason: Reason | None = None
    upload_reason: Reason | None = None

    @property
    def may_fetch(self) -> bool:
        """From the origin."""
        return self.action is GateAction.ALLOW

    @property
    def may_download(self) -> bool:
        """From peers."""
        return self.action is not GateAction.WAIT

    @property
    def may_upload(self) -> bool:
        """To peers."""
        return self.upload_reason is None

    @property
    def serves_the_site(self) -> bool:
        """Whether others may wait for what it brings from the origin."""
        return self.may_fetch and self.may_upload


def passage(gates: Iterable[NetworkGates], facts: HostFacts) -> Passage:
    """The strictest that any of `gates` demands. What is not known (None) closes no gate."""
    action, reason, upload_reason = GateAction.ALLOW, None, None
    for gate in gates:
        for closing, why, uploads in _closings(gate, facts):
            if _STRICTNESS.index(closing) > _STRICTNESS.index(action):
                action, reason = closing, why
            if upload_reason is None and (closing is GateAction.WAIT or not uploads):
                upload_reason = why
    return Passage(action=action, reason=reason, upload_reason=upload_reason)


def _closings(gate: NetworkGates, facts: HostFacts) -> list[tuple[GateAction, Reason, bool]]:
    found = []
    if facts.is_metered:
        found.append((gate.metered, Reason.LINK_METERED, True))
    if facts.is_vpn:
        found.append((gate.vpn, Reason.LINK_VPN, gate.vpn_uploads))
    if facts.battery_percent is not None and facts.battery_percent <= gate.battery_percent:
        found.append((gate.battery, Reason.BATTERY_LOW, gate.battery_uploads))
    return found
