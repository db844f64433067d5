# SPDX-License-Identifier: Apache-2.0
"""Small programs that tests run on hosts of a lab, one a process: what they send, and what they tell of what came."""

import hashlib
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench.lab.network import Host

PYTHON = (sys.executable, "-I", "-S")  # only the standard library: starts in a third of the time
END_SECONDS = 30.0  # takes far below one; a loaded machine may be slow

# Each says `ready` when it may be sent to.
UDP_LISTEN = """
import socket, struct, sys
address, port, group = sys.argv[1], int(sys.argv[2]), sys.argv[3]
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE: what is lost is lost on the way
s.bind(("", port))
s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + socket.inet_aton(address))
print("ready", flush=True)
while (data := s.recv(2000)) != b"end":
    print(int.from_bytes(data[:4], "big"), flush=True)
"""
UDP_SEND = """
import socket, sys, time
source, target, port, count, size, wait = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:7])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 8)
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(source))
for number in range(count):
    s.sendto(number.to_bytes(4, "big") + bytes(size - 4), (target, port))
    if wait and number % wait == wait - 1:
        time.sleep(0.002)
"""
TCP_SERVE = """
import random, socket, sys
port, size = int(sys.argv[1]), int(sys.argv[2])
s = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    c, peer = s.accept()
    print(peer[0].removeprefix("::ffff:"), flush=True)
    c.sendall(random.Random(1).randbytes(size))
    c.close()
"""
TCP_FETCH = """
import hashlib, socket, sys, time
began = time.monotonic()
c = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=float(sys.argv[3]))
connected = time.monotonic()
c.settimeout(None)
got = b""
while data := c.recv(1 << 20):
    got += data
print(hashlib.sha256(got).hexdigest(), connected - began, time.monotonic() - connected)
"""


@contextmanager
def listening(host: Host, program: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """`program` on `host`, once it is ready."""
    argv = host.argv([*PYTHON, "-c", program, *map(str, arguments)])
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def told(process: subprocess.Popen[str]) -> str:
    """The next line of a process."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def ran(host: Host, program: str, *arguments: object) -> str:
    """What `program` tells, run to its end on `host`."""
    done = run(host, [*PYTHON, "-c", program, *map(str, arguments)])
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def fetched(host: Host, address: str, port: int) -> tuple[str, float, float]:
    """The SHA-256 of what a TCP_SERVE sent to `host`; the seconds to connect, and then to receive."""
    digest, connecting, receiving = ran(host, TCP_FETCH, address, port, END_SECONDS).split()
    return digest, float(connecting), float(receiving)


def digest_of(size: int) -> str:
    """The SHA-256 of what a TCP_SERVE of this size sends."""
    return hashlib.sha256(random.Random(1).randbytes(size)).hexdigest()  # noqa: S311 (to tell bytes apart)


def is_reached(host: Host, address: str, port: int) -> bool:
    """Whether `host` can connect, within half a second: only for what must fail, or is tried again."""
    return run(host, [*PYTHON, "-c", TCP_FETCH, address, str(port), "0.5"]).returncode == 0


def run(host: Host, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """`command`, run to its end on `host`."""
    return subprocess.run(host.argv(command), capture_output=True, text=True, check=False, timeout=END_SECONDS)
