# SPDX-License-Identifier: Apache-2.0
"""Sets the demo's stage with the very commands of the README: a fleet, its coordinator, six enrolled agents."""

from collections.abc import Callable
from pathlib import Path

import trio

from p2pd.host.control_socket import ControlUnreachable, request
from seeds.demo.processes import AgentHome, CommandFailed, Stage

PUBLIC_PORT, AGENT_PORT, METRICS_PORT = 8443, 8444, 9464
READY_SECONDS = 30.0
LOOK_SECONDS = 0.1

Say = Callable[[str], None]

_POLICY = """\
version = 2
segments = ["default"]

[[rings]]
name = "canary"
devices = ["agent-1"]
gate = { success_percent = 100, success_count = 1, error_percent = 0, error_count = 1 }

[[rings]]
name = "everyone"
"""


async def set_up_fleet(stage: Stage, address: str, say: Say) -> None:
    """Make the fleet, with agent-1 as its canary, and start the coordinator."""
    say(f"p2pctl init --name {address}")
    await stage.run(
        "p2pctl",
        "init",
        "--name",
        address,
        "--public",
        f"{address}:{PUBLIC_PORT}",
        "--agent",
        f"{address}:{AGENT_PORT}",
        "--metrics",
        f"{address}:{METRICS_PORT}",
    )
    policy = stage.directory / "policy.toml"
    policy.write_text(_POLICY)
    say("p2pctl policy apply policy.toml   (agent-1 is the canary)")
    await stage.run("p2pctl", "policy", "apply", str(policy))
    say("p2pctl serve")
    await stage.start(stage.directory / "coordinator.log", "p2pctl", "serve")
    await _answers(stage.fleet / "run" / "control.sock", stage.directory / "coordinator.log")


async def start_agents(stage: Stage, homes: tuple[AgentHome, ...], say: Say) -> None:
    """Enrol every agent with one token and start its two processes."""
    say(f"p2pctl enroll-token --uses {len(homes)}")
    token = await stage.run("p2pctl", "enroll-token", "--uses", str(len(homes)))
    say("p2pd enroll TOKEN && p2pd-install & p2pd run &   (on every agent)")
    async with trio.open_nursery() as nursery:
        for home in homes:
            nursery.start_soon(_start_agent, stage, home, token)


async def _start_agent(stage: Stage, home: AgentHome, token: str) -> None:
    write_configs(home)
    await stage.run(
        "p2pd", "--config", str(home.config), "enroll", "--name", home.name, "--token-file", "-", stdin=token.encode()
    )
    installer_log, log = home.directory / "p2pd-install.log", home.directory / "p2pd.log"
    await stage.start(installer_log, "p2pd-install", "--config", str(home.installer_config))
    await stage.start(log, "p2pd", "--config", str(home.config), "run")
    await _answers(home.control_socket, log)


def write_configs(home: AgentHome) -> None:
    """Make an agent's directory, with the configurations of its two daemons."""
    directory = home.directory
    directory.mkdir()
    home.config.write_text(
        f'interfaces = ["{home.address}"]\n'
        f'state_dir = "{directory}/state"\n'
        f'initial_root = "{directory}/root.json"\n'
        f'control_socket = "{home.control_socket}"\n'
        f'installer_socket = "{directory}/run-install/p2pd-install.sock"\n'
        f'metrics_host = "{home.address}"\n'
    )
    home.installer_config.write_text(
        f'state_dir = "{directory}/install-state"\n'
        f'install_root = "{home.install_root}"\n'
        f'initial_root = "{directory}/root.json"\n'
        f'socket = "{directory}/run-install/p2pd-install.sock"\n'
    )


async def _answers(control_socket: Path, log: Path) -> None:
    with trio.move_on_after(READY_SECONDS):
        while True:
            try:
                await request(control_socket, "status", timeout_seconds=5)
            except ControlUnreachable:
                await trio.sleep(LOOK_SECONDS)
            else:
                return
    raise CommandFailed(f"no daemon answers at {control_socket}; see {log}")
