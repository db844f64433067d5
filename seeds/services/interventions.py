# SPDX-License-Identifier: Apache-2.0
"""What administrators do to a running fleet by hand: let a halted rollout go on, forget a device.

Each is one transaction that names who did it, when and why. A coordinator acts on it with its next step.
"""

from collections.abc import Sequence

from seeds.adapters.store import Store
from seeds.decisions.evidence import failing
from seeds.decisions.resumption import judge_resumption
from seeds.records import AuditEvent, Device
from signing.errors import BadInput

_NAMED = 20  # devices that an audit event names; the rest is counted


def resume_rollout(
    store: Store, product: str, version: str, *, who: str, why: str, now: int
) -> tuple[str, tuple[str, ...]]:
    """Ask for a halted rollout to go on, and forgive the failures reported so far; its digest, and whose they were.

    A forgiven device gives no evidence until it tries again, so that new failures halt the rollout as before. Raises
    BadInput when there is no such rollout, or it is not halted.
    """
    where = f"{product} {version}"
    with store.writing() as transaction:
        rollouts = transaction.rollouts()
        found = [rollout for rollout in rollouts if (rollout.product, rollout.version) == (product, version)]
        if not found:
            raise BadInput(where, "has no rollout", "see `p2pctl rollout list`")
        refusal = judge_resumption(found[0], rollouts)
        if refusal is not None:
            raise BadInput(where, refusal, "see `p2pctl rollout list`")
        manifest = found[0].manifest_sha256
        forgiven = failing(transaction.said([manifest])[manifest])
        transaction.forgive(manifest, forgiven)
        transaction.ask_resumption(manifest)
        detail = f"{why or 'no reason given'}; forgiven: {_listed(forgiven)}"
        transaction.add_audit(
            AuditEvent(time=now, who=who, what="rollout resumed", subject=f"release {where}", detail=detail)
        )
    return manifest, forgiven


def remove_device(store: Store, name: str, *, who: str, why: str, now: int) -> Device:
    """Forget a device: its reports and renewals are refused, and no schedule names it. Raises BadInput.

    What it reported stays for auditors. The name may be enrolled again with a new token.
    """
    with store.writing() as transaction:
        device = transaction.device(name)
        if device is None:
            raise BadInput(name, "is no device of this fleet", "see `p2pctl device list`")
        transaction.remove_device(name, at=now)
        transaction.add_audit(
            AuditEvent(time=now, who=who, what="removed", subject=f"device {name}", detail=why or "no reason given")
        )
    return device


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "") or "nobody"
