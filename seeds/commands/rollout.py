# SPDX-License-Identifier: Apache-2.0
"""`p2pctl rollout`: how far releases have come, and what lets a halted one go on."""

import click
from rich.markup import escape

from seeds.commands.context import Session, bad_input_exits, json_option, now, show, who


@click.group()
def rollout() -> None:
    """Rollouts: list them, let a halted one go on."""


@rollout.command("list")
@json_option
@click.pass_obj
def list_rollouts(session: Session, *, as_json: bool) -> None:
    """List all rollouts, and why devices wait or failed."""
    from seeds.adapters.store import Store
    from seeds.commands.rollout_view import read_rollouts, rollout_table

    with bad_input_exits(), Store(session.fleet().database) as store, store.reading() as transaction:
        facts = read_rollouts(transaction)
    show(as_json, facts, lambda: session.console.print(rollout_table(facts)))


@rollout.command("resume")
@click.argument("product")
@click.argument("version")
@click.option("--why", default="", help="The reason, in words; kept in the audit trail.")
@json_option
@click.pass_obj
def resume(session: Session, product: str, version: str, why: str, *, as_json: bool) -> None:
    """Let a halted rollout go on, and forgive the failures that were reported so far; new ones halt it again."""
    from seeds.adapters.store import Store
    from seeds.services.interventions import resume_rollout
    from seeds.services.publishing import poke_coordinator

    with bad_input_exits():
        fleet = session.fleet()
        with Store(fleet.database) as store:
            manifest, forgiven = resume_rollout(store, product, version, who=who(), why=why, now=int(now().timestamp()))
        served = poke_coordinator(fleet.control_socket)
    facts = {
        "product": product,
        "version": version,
        "manifest_sha256": manifest,
        "forgiven": forgiven,
        "why": why,
        "served": served,
    }

    def for_people() -> None:
        session.console.print(
            f"resumed: [bold]{escape(product)} {escape(version)}[/]; forgiven: {', '.join(forgiven) or 'nobody'}"
        )
        if served is None:
            session.console.print("no coordinator answers now; the next that runs goes on with it")

    show(as_json, facts, for_people)
