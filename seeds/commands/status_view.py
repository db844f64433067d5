# SPDX-License-Identifier: Apache-2.0
"""`p2pctl status`: devices, rollouts and metadata, read from the database and the repository, server or not."""

from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from seeds.adapters.store import Store
from seeds.commands.rollout_view import read_rollouts, rollout_table
from seeds.fleet import Fleet
from signing.repository import Repository


def read_status(fleet: Fleet, *, now: datetime) -> dict[str, Any]:
    """Everything that `show_status` shows, for JSON as well."""
    with Store(fleet.database) as store, store.reading() as transaction:
        devices, rollouts = transaction.devices(), read_rollouts(transaction)
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
        "rollouts": rollouts,
        "metadata": {
            role: {"expires": expires.isoformat(), "hours_left": round((expires - now).total_seconds() / 3_600, 1)}
            for role, expires in repository.expiries().items()
        },
    }


def show_status(console: Console, facts: dict[str, Any]) -> None:
    """The fleet for people: rollouts first, since they change most."""
    devices = Table("device", "segment", "site", "latest report", "reason", title="Devices")
    for device in facts["devices"]:
        latest = max(device["releases"], key=lambda release: release["time"], default=None)
        told = f"{latest['product']} {latest['version']} {latest['state']}" if latest else "none yet"
        devices.add_row(
            device["device"], device["segment"], device["site"], told, (latest["reason"] or "") if latest else ""
        )
    console.print(rollout_table(facts["rollouts"]))
    console.print(devices if facts["devices"] else "no devices yet: p2pctl enroll-token")
    role, soonest = min(facts["metadata"].items(), key=lambda item: float(item[1]["hours_left"]))
    console.print(f"signed metadata: {role} expires first, in {soonest['hours_left']} hours")
