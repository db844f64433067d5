# SPDX-License-Identifier: Apache-2.0
"""`p2pctl status`: devices, rollouts and metadata, read from the database and the repository, server or not."""

from collections import Counter
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from seeds.adapters.store import Store
from seeds.fleet import Fleet
from signing.repository import Repository


def read_status(fleet: Fleet, *, now: datetime) -> dict[str, Any]:
    """Everything that `show_status` shows, for JSON as well."""
    with Store(fleet.database) as store, store.reading() as transaction:
        devices, rollouts = transaction.devices(), transaction.rollouts()
        releases = transaction.device_releases()
    repository = Repository(fleet.repository)
    installed = {
        device.device: sorted(
            (release for release in releases if release.device == device.device), key=lambda release: release.sequence
        )
        for device in devices
    }
    return {
        "devices": [
            {
                "device": device.device,
                "segment": device.segment,
                "site": device.site,
                "certificate_expires": device.certificate_expires,
                "releases": [
                    {
                        "product": release.product,
                        "version": release.version,
                        "state": release.state.value,
                        "reason": release.reason.value if release.reason else None,
                        "detail": release.detail,
                        "time": release.time,
                        "bytes_lan": release.bytes_lan,
                        "bytes_origin": release.bytes_origin,
                        "bytes_web": release.bytes_web,
                        "seconds": release.seconds,
                    }
                    for release in installed[device.device]
                ],
            }
            for device in devices
        ],
        "rollouts": [
            {
                "product": rollout.product,
                "version": rollout.version,
                "release_counter": rollout.release_counter,
                "state": rollout.state.value,
                "open_rings": rollout.open_rings,
                "reason": rollout.reason.value if rollout.reason else None,
                "sentence": rollout.sentence,
                "devices": dict(
                    Counter(r.state.value for r in releases if r.manifest_sha256 == rollout.manifest_sha256)
                ),
            }
            for rollout in sorted(rollouts, key=lambda r: (r.product, r.release_counter))
        ],
        "metadata": {
            role: {"expires": expires.isoformat(), "hours_left": round((expires - now).total_seconds() / 3_600, 1)}
            for role, expires in repository.expiries().items()
        },
    }


def show_status(console: Console, facts: dict[str, Any]) -> None:
    """The fleet for people: rollouts first, since they change most."""
    rollouts = Table("product", "version", "rollout", "rings open", "devices", "reason", title="Rollouts")
    for rollout in facts["rollouts"]:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(rollout["devices"].items()))
        rollouts.add_row(
            rollout["product"],
            rollout["version"],
            rollout["state"],
            str(rollout["open_rings"]),
            counts or "-",
            escape(rollout["sentence"] or rollout["reason"] or ""),
        )
    devices = Table("device", "segment", "site", "latest report", "reason", title="Devices")
    for device in facts["devices"]:
        latest = max(device["releases"], key=lambda release: release["time"], default=None)
        told = f"{latest['product']} {latest['version']} {latest['state']}" if latest else "none yet"
        devices.add_row(
            device["device"], device["segment"], device["site"], told, (latest["reason"] or "") if latest else ""
        )
    console.print(rollouts if facts["rollouts"] else "no rollouts yet: p2pctl patch build NAME VERSION SOURCE")
    console.print(devices if facts["devices"] else "no devices yet: p2pctl enroll-token")
    role, soonest = min(facts["metadata"].items(), key=lambda item: float(item[1]["hours_left"]))
    console.print(f"signed metadata: {role} expires first, in {soonest['hours_left']} hours")
