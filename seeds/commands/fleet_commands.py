# SPDX-License-Identifier: Apache-2.0
"""`p2pctl enroll-token`, `serve`, `status` and `policy`: the fleet as a whole."""

from functools import partial
from pathlib import Path

import click
import trio

from seeds.commands.context import (
    Session,
    bad_input_exits,
    json_option,
    now,
    offline_passphrase_option,
    online_passphrase_option,
    passphrase,
    show,
    who,
)
from signing.errors import BadInput
from signing.structure import flatten


@click.command("enroll-token")
@click.option("--segment", help="Which segment the device joins.  [default: the fleet's first]")
@click.option("--site", default="main", show_default=True, help="Which site it stands at.")
@click.option("--uses", default=1, show_default=True, help="How many devices may enrol with it.")
@click.option("--hours", default=24.0, show_default=True, help="How long it is good for.")
@click.option("--device", help="Good for this device name only, whose key it may replace.")
@json_option
@click.pass_obj
def enroll_token(
    session: Session, segment: str | None, site: str, uses: int, hours: float, device: str | None, *, as_json: bool
) -> None:
    """Print a token with which a device joins the fleet: `p2pd enroll TOKEN`. It is a secret until it is spent."""
    from seeds.adapters.store import Store
    from seeds.services.tokens import TokenWish, issue_token

    with bad_input_exits():
        fleet = session.fleet()
        try:
            wish = TokenWish(
                segment=segment or fleet.config.segments[0],
                site=site,
                uses=uses,
                seconds=int(hours * 3_600),
                device=device,
            )
        except ValueError as problem:
            raise BadInput("enroll-token", str(problem)) from None
        with Store(fleet.database) as store:
            token = issue_token(store, fleet.pins(), wish, who=who(), now=int(now().timestamp()))
    facts = {"token": token.encode(), "segment": wish.segment, "site": wish.site, "uses": uses, "seconds": wish.seconds}
    show(as_json, facts, lambda: click.echo(token.encode()))


@click.command()
@click.option("--log-level", default="info", show_default=True)
@click.option("--log-text", is_flag=True, help="Log for people instead of JSON.")
@online_passphrase_option
@click.pass_obj
def serve(session: Session, log_level: str, online_passphrase: Path | None, *, log_text: bool) -> None:
    """Run the coordinator: signed files, payloads, enrolment, reports, rollouts."""
    from p2pd.host.shutdown import run_until_signalled
    from p2pd.host.telemetry import configure_logging, log
    from seeds.coordinator import BoundAddresses, run_coordinator

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            bound: BoundAddresses = await nursery.start(partial(run_coordinator, fleet, passphrase=secret))
            log("coordinator").info("ready", public=bound.public, agent=bound.agent, metrics=bound.metrics)

    with bad_input_exits():
        configure_logging(json=not log_text, level=log_level)
        fleet = session.fleet()
        secret = passphrase(online_passphrase, "online")
        trio.run(partial(run_until_signalled, run, drain_seconds=fleet.config.drain_seconds + 5))


@click.command()
@json_option
@click.pass_obj
def status(session: Session, *, as_json: bool) -> None:
    """Show the fleet and its rollouts at a glance."""
    from seeds.commands.status_view import read_status, show_status

    with bad_input_exits():
        fleet = session.fleet()
        facts = read_status(fleet, now=now())
    show(as_json, facts, lambda: show_status(session.console, facts))


@click.group()
def policy() -> None:
    """Rings, gates and limits: check a policy file, apply it, show the one in force."""


@policy.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@click.pass_obj
def check_policy(session: Session, file: Path, *, as_json: bool) -> None:
    """Check a policy FILE without changing anything."""
    from p2pd.host.config_file import load_config
    from signing.policy import Policy

    with bad_input_exits():
        checked = load_config(Policy, file)
    show(as_json, flatten(checked), lambda: session.console.print(f"{file}: version {checked.version} is well-formed"))


@policy.command("apply")
@click.argument("file", type=click.Path(path_type=Path))
@offline_passphrase_option
@online_passphrase_option
@json_option
@click.pass_obj
def apply_policy(
    session: Session, file: Path, offline_passphrase: Path | None, online_passphrase: Path | None, *, as_json: bool
) -> None:
    """Sign the policy in FILE and publish it; its version must be higher than the last."""
    from p2pd.host.config_file import load_config
    from seeds.commands.publication import publish_role, sign_role
    from seeds.services.publishing import poke_coordinator, stage_policy
    from signing.policy import Policy

    with bad_input_exits():
        fleet, repository = session.fleet(), session.repository()
        wanted = load_config(Policy, file)
        secret, online = passphrase(offline_passphrase, "offline"), passphrase(online_passphrase, "online")
        stage_policy(repository, wanted, now=now())
        sign_role(fleet, repository, "policies", secret)
        publish_role(fleet, repository, "policies", online, now=now())
        served = poke_coordinator(fleet.control_socket)
    facts = {"version": wanted.version, "served": served}
    show(as_json, facts, lambda: session.console.print(f"policy version {wanted.version} is in force"))


@policy.command("show")
@json_option
@click.pass_obj
def show_policy(session: Session, *, as_json: bool) -> None:
    """Show the policy in force."""
    from seeds.commands.patch_views import show_manifest
    from signing.codec import decode
    from signing.policy import POLICY_TARGET, Policy

    with bad_input_exits():
        data = session.repository().read_target("policies", POLICY_TARGET)
        if data is None:
            raise BadInput(str(session.directory), "has no policy", "apply one with `p2pctl policy apply FILE`")
        facts = flatten(decode(Policy, data, where=POLICY_TARGET))
    show(as_json, facts, lambda: show_manifest(session.console, facts))
