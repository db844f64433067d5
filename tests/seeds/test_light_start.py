# SPDX-License-Identifier: Apache-2.0
"""What commands that publish do not load: how long they take to start is part of how long a patch takes to arrive."""

import subprocess
import sys

_LOADED = """
import sys
import seeds.cli, seeds.commands.patch, seeds.commands.patch_release
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_publishing_loads_neither_the_database_nor_an_event_loop() -> None:
    done = subprocess.run([sys.executable, "-c", _LOADED], capture_output=True, check=True, text=True)
    loaded = set(done.stdout.split())
    assert {"click", "tuf"} <= loaded
    assert not loaded & {"sqlalchemy", "starlette", "hypercorn", "httpx", "zeroconf"}
    assert not loaded & {"asyncio", "trio", "prometheus_client", "structlog", "libtorrent", "debian"}
