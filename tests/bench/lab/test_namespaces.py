# SPDX-License-Identifier: Apache-2.0
"""The lab: hosts reach each other and nothing else, and nothing of it stays behind."""

import os
import subprocess
import sys
import time

import pytest

from bench.lab import namespaces as lab_module
from bench.lab.namespaces import LabError, exec_in, namespaces, remove_leftovers, why_not_available


@pytest.fixture
def possible() -> None:
    reason = why_not_available()
    if reason is not None:
        pytest.skip(reason)


def ours() -> list[str]:
    return [name for name in lab_module._namespaces() if name.startswith(f"p2pd-lab-{os.getpid()}-")]


def host_interfaces() -> list[str]:
    listed = subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True)  # noqa: S607
    return [line.split()[0] for line in listed.stdout.splitlines()]


def reaches(argv: list[str]) -> bool:
    return subprocess.run(argv, capture_output=True, check=False, timeout=10).returncode == 0


CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2)"
LISTEN = "import socket; s = socket.create_server(('10.77.0.2', 9000)); print(flush=True); print(s.accept()[1][0])"


@pytest.mark.root
@pytest.mark.usefixtures("possible")
def test_hosts_reach_each_other_and_nothing_else() -> None:
    before = host_interfaces()
    with namespaces(2) as lab:
        assert host_interfaces() == before
        assert [host.address for host in lab.hosts] == ["10.77.0.1", "10.77.0.2"]
        server = subprocess.Popen(lab.hosts[1].argv([sys.executable, "-c", LISTEN]), stdout=subprocess.PIPE)
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"\n"
            assert not reaches(lab.hosts[0].argv([sys.executable, "-c", CONNECT, "192.0.2.1", "9"]))
            assert reaches(lab.hosts[0].argv([sys.executable, "-c", CONNECT, "10.77.0.2", "9000"]))
            assert server.stdout.read() == b"10.77.0.1\n"
        finally:
            server.kill()
            server.communicate()
    assert ours() == []
    assert host_interfaces() == before


@pytest.mark.root
@pytest.mark.usefixtures("possible")
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_stays_whatever_happens_inside(error: type[BaseException]) -> None:
    sleepers: list[subprocess.Popen[bytes]] = []

    def fail_in_a_lab() -> None:
        with namespaces(1) as lab:
            sleeper = subprocess.Popen(lab.hosts[0].argv(["sleep", "60"]))
            sleepers.append(sleeper)
            deadline = time.monotonic() + 5
            # `ip` enters the namespace before it becomes `sleep`.
            while str(sleeper.pid) not in lab_module._ip("netns", "pids", lab.hosts[0].namespace).split():
                assert time.monotonic() < deadline
            raise error

    with pytest.raises(error):
        fail_in_a_lab()
    assert ours() == []
    assert sleepers[0].wait(timeout=5) != 0


@pytest.mark.root
@pytest.mark.usefixtures("possible")
def test_two_labs_at_once_are_two_networks() -> None:
    with namespaces(1) as one, namespaces(1) as two:
        assert one.hosts[0].namespace != two.hosts[0].namespace
        assert reaches(exec_in(one.bridge, ["true"]))
        assert reaches(exec_in(two.bridge, ["true"]))
    assert ours() == []


@pytest.mark.root
@pytest.mark.usefixtures("possible")
def test_what_a_killed_run_left_goes_with_the_next() -> None:
    with subprocess.Popen(["true"]) as ended:  # noqa: S607
        pass
    leftover = f"p2pd-lab-{ended.pid}-0h0"
    lab_module._ip("netns", "add", leftover)
    with namespaces(1) as alive:
        assert leftover not in lab_module._namespaces()
        remove_leftovers()
        assert alive.hosts[0].namespace in lab_module._namespaces()


@pytest.mark.root
@pytest.mark.usefixtures("possible")
def test_a_lab_that_cannot_be_finished_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab_module, "_NETWORK", "10.777.0")
    with pytest.raises(LabError, match=r"10\.777\.0\.1"), namespaces(2):
        pass
    assert ours() == []


def test_plain_users_are_told_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert why_not_available.__wrapped__() == "network namespaces need root"


def test_a_machine_without_ip_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(lab_module, "_SYSTEM_PATHS", "/nonexistent")
    assert "iproute2" in str(why_not_available.__wrapped__())


@pytest.mark.parametrize("count", [0, 201])
def test_a_lab_has_a_sensible_size(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 200"), namespaces(count):
        pass
