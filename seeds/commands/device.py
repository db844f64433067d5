# SPDX-License-Identifier: Apache-2.0
"""`p2pctl device`: who is enrolled, and how to be rid of a device that is lost."""

from datetime import UTC, datetime
from typing import Any

import click
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from seeds.commands.context import Session, bad_input_exits, json_option, now, show, who
from seeds.records import Device


@click.group()
def device() -> None:
    """Devices: list them, remove one that is lost."""


@device.command("list")
@json_option
@click.pass_obj
def list_devices(session: Session, *, as_json: bool) -> None:
    """List all enrolled devices."""
    from seeds.adapters.store import Store

    with bad_input_exits(), Store(session.fleet().database) as store, store.reading() as transaction:
        facts = [_describe(device) for device in transaction.devices()]
    show(as_json, facts, lambda: session.console.print(_table(facts)))


@device.command("remove")
@click.argument("name")
@click.option("--why", default="", help="The reason, in words; kept in the audit trail.")
@json_option
@click.pass_obj
def remove(session: Session, name: str, why: str, *, as_json: bool) -> None:
    """Forget a device: its reports and renewals are refused from now on, and no schedule names it."""
    from seeds.adapters.store import Store
    from seeds.services.interventions import remove_device
    from seeds.services.publishing import poke_coordinator

    with bad_input_exits():
        fleet = session.fleet()
        with Store(fleet.database) as store:
            removed = remove_device(store, name, who=who(), why=why, now=int(now().timestamp()))
        served = poke_coordinator(fleet.control_socket)
    facts = {**_describe(removed), "why": why, "served": served}

    def for_people() -> None:
        session.console.print(f"removed: [bold]{escape(name)}[/]")
        session.console.print(
            f"on its LAN its certificate is good until {_day(removed.certificate_expires)}; it cannot be renewed"
        )
        if served is None:
            session.console.print("no coordinator answers now; the next that runs leaves the device out of schedules")

    show(as_json, facts, for_people)


def _describe(device: Device) -> dict[str, Any]:
    return {
        "device": device.device,
        "segment": device.segment,
        "site": device.site,
        "enrolled_at": device.enrolled_at,
        "certificate_expires": device.certificate_expires,
    }


def _table(devices: list[dict[str, Any]]) -> RenderableType:
    if not devices:
        return "no devices yet: p2pctl enroll-token"
    table = Table("device", "segment", "site", "enrolled", "certificate expires")
    for device in devices:
        table.add_row(
            device["device"],
            device["segment"],
            device["site"],
            _day(device["enrolled_at"]),
            _day(device["certificate_expires"]),
        )
    return table


def _day(unix: int) -> str:
    return datetime.fromtimestamp(unix, UTC).date().isoformat()
