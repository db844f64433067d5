# SPDX-License-Identifier: Apache-2.0
"""What people get wrong: one clear line that names the remedy, exit code 2, and nothing has changed."""

import hashlib
import socket
from dataclasses import replace
from pathlib import Path

import trio

from bench.lab.administrator import AGENT_PORT, METRICS_PORT, PUBLIC_PORT
from bench.lab.processes import Finished
from p2pd.config import AgentConfig
from signing.codec import encode
from tests.end_to_end.endpoint import Endpoint
from tests.end_to_end.fleet import FleetUnderTest

ELSE = hashlib.sha256(b"somebody else's").hexdigest()


def refused(done: Finished, *words: str, program: str = "p2pd") -> None:
    """Check that a command ended as it should for bad input, with each of `words` in its one line for people."""
    lines = [line for line in done.errors.splitlines() if not line.startswith("{")]  # logs are JSON
    assert (done.status, done.output, len(lines)) == (2, "", 1), done
    assert lines[0].startswith(f"{program}: ")
    for word in words:
        assert word in lines[0]
    assert "Traceback" not in done.errors


def everything_in(directory: Path) -> dict[str, str]:
    """All files below a directory with their digests."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


async def test_tokens_that_are_good_for_nothing(fleet: FleetUnderTest) -> None:
    await fleet.start_coordinator()
    good, spent = fleet.token(), fleet.token()
    first = fleet.endpoint("first")
    await first.enrol(spent.encode())
    cases = {
        "expired": (fleet.token(seconds=60, seconds_ago=120).encode(), ("token_expired", "p2pctl enroll-token")),
        "used-up": (spent.encode(), ("token_used", "p2pctl enroll-token")),
        "garbage": ("correct-horse-battery-staple", ("enrolment token", "does not start with 'p2pd1.'")),
        "cut-off": (good.encode()[:-9], ("enrolment token", "damaged or incomplete", "copy it whole")),
        "impostor": (replace(good, ca_sha256=ELSE).encode(), ("authority is not the one that the token names",)),
        "other-root": (replace(good, root_sha256=ELSE).encode(), ("root is not the one that the token names",)),
        "other-name": (fleet.token(device="somebody").encode(), ("token_other_device",)),
    }

    async def try_one(name: str, token: str, words: tuple[str, ...]) -> None:
        endpoint = fleet.endpoint(name)
        before = everything_in(endpoint.directory)
        done = await endpoint.run("enroll", "--name", name, token)
        refused(done, *words)
        assert token not in done.errors
        assert everything_in(endpoint.directory) == before

    async with trio.open_nursery() as nursery:
        for name, (token, words) in cases.items():
            nursery.start_soon(try_one, name, token, words)
    before = everything_in(first.directory)
    refused(await first.run("enroll", "--name", "first", good.encode()), "is enrolled already", "--again")
    assert everything_in(first.directory) == before


async def test_daemons_that_cannot_start(fleet: FleetUnderTest) -> None:
    await fleet.start_coordinator()
    (endpoint,) = await fleet.enrolled("desk-1")
    newcomer = fleet.endpoint("newcomer")
    await fleet.kill_coordinator()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(agents_that_cannot_start, endpoint, newcomer)
        nursery.start_soon(coordinators_that_cannot_start, fleet)


async def agents_that_cannot_start(enrolled: Endpoint, newcomer: Endpoint) -> None:
    refused(await newcomer.run("run"), "this endpoint is not enrolled", "p2pd enroll TOKEN")
    for port in (AgentConfig.torrent_port, AgentConfig.mirror_port, AgentConfig.metrics_port):
        with socket.create_server((enrolled.address, port)):
            refused(await enrolled.run("run"), enrolled.address, str(port), "in use", "configure another")


async def coordinators_that_cannot_start(fleet: FleetUnderTest) -> None:
    for port in (PUBLIC_PORT, AGENT_PORT, METRICS_PORT):
        with socket.create_server((fleet.address, port)):
            done = await fleet.p2pctl("serve")
            refused(done, f"{fleet.address}:{port}", "in use", "configure another", program="p2pctl")
    wrong = fleet.directory / "wrong-passphrase"
    wrong.write_text("a passphrase for something else")
    done = await fleet.p2pctl("serve", "--online-passphrase-file", wrong)
    refused(done, "passphrase", "keys/online/", program="p2pctl")
    assert "a passphrase for" not in done.errors


async def test_mistakes_in_files_that_people_write(fleet: FleetUnderTest) -> None:
    endpoint = fleet.endpoint("desk-1")
    endpoint.config.write_text(endpoint.config.read_text().replace("state_dir", "state_dri"))
    policy = fleet.directory / "policy.toml"
    policy.write_text('version = 2\nsegments = ["accounting"]\n[[rings]]\nname = "everyone"\npercnt = 5\n')
    wrong = fleet.directory / "wrong-passphrase"
    wrong.write_text("a passphrase for something else")
    source = fleet.directory / "source"
    source.mkdir()
    (source / "file").write_text("text")
    built = await fleet.p2pctl("patch", "build", "ledger", "1.0", source, "--json")
    assert built.status == 0, built.errors
    before = everything_in(fleet.fleet.directory)

    async def of_the_agent(verb: str) -> None:
        refused(await endpoint.run(verb), str(endpoint.config), "'state_dri'", "did you mean 'state_dir'?")

    async def of_the_administrator(words: tuple[str, ...], *arguments: str | Path) -> None:
        refused(await fleet.p2pctl(*arguments), *words, program="p2pctl")

    nearest = (str(policy), "'percnt'", "did you mean 'percent'?")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(of_the_agent, "run")
        nursery.start_soon(of_the_agent, "status")
        nursery.start_soon(of_the_administrator, nearest, "policy", "check", policy)
        nursery.start_soon(of_the_administrator, nearest, "policy", "apply", policy)
        secret = ("patch", "sign", "--offline-passphrase-file", wrong)
        nursery.start_soon(of_the_administrator, ("passphrase", "keys/offline/"), *secret)
        nowhere = ("--fleet", fleet.directory, "patch", "list")
        nursery.start_soon(of_the_administrator, ("is no fleet directory", "p2pctl init"), *nowhere)
    assert everything_in(fleet.fleet.directory) == before

    config = fleet.fleet.layout.config
    config.write_text("segmnets = []\n" + config.read_text())
    done = await fleet.p2pctl("status")
    refused(done, str(config), "'segmnets'", "did you mean 'segments'?", program="p2pctl")


async def test_files_that_are_damaged(fleet: FleetUnderTest) -> None:
    release = await fleet.release("1.0", 1)
    manifest, torrent = encode(release.built.manifest), next(iter(release.built.torrents.values()))
    damaged = {
        "manifest-cut-off": manifest[:-20],
        "torrent-cut-off": torrent[:-30],
        "torrent-bent": torrent[:-100] + bytes([torrent[-100] ^ 1]) + torrent[-99:],
        "noise": bytes(range(256)) * 10,
    }
    for name, data in damaged.items():
        (fleet.directory / name).write_bytes(data)

    async def show(path: Path) -> None:
        refused(await fleet.p2pctl("patch", "show", path), str(path), program="p2pctl")

    async with trio.open_nursery() as nursery:
        for name in damaged:
            nursery.start_soon(show, fleet.directory / name)
