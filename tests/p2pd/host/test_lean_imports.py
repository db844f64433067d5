# SPDX-License-Identifier: Apache-2.0
"""Hiding modules from libraries, and what the daemon must not load."""

import subprocess
import sys

import pytest

from p2pd.host.lean_imports import unavailable

_LOADED = """
import sys
import p2pd.cli
with p2pd.cli.unavailable("rich", "pygments"):
    import p2pd.agent
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_a_hidden_module_is_as_if_it_were_not_installed() -> None:
    sys.modules.pop("this", None)
    with unavailable("this"), pytest.raises(ModuleNotFoundError):
        import this  # noqa: F401
    assert "this" not in sys.modules


def test_what_is_loaded_already_stays() -> None:
    before = sys.modules["json"]
    with unavailable("json"):
        import json
    assert json is before is sys.modules["json"]


def test_it_can_be_imported_afterwards() -> None:
    with pytest.raises(LookupError), unavailable("colorsys"):
        raise LookupError
    import colorsys

    assert colorsys.rgb_to_hsv(0, 0, 0) == (0, 0, 0)


def test_the_daemon_loads_nothing_that_only_people_or_the_origin_need() -> None:
    """Each costs every endpoint megabytes; rich and pygments are installed, as commands use them."""
    done = subprocess.run([sys.executable, "-c", _LOADED], capture_output=True, check=True, text=True)
    loaded = set(done.stdout.split())
    assert {"httpx", "structlog", "libtorrent"} <= loaded
    assert not loaded & {"rich", "pygments", "sqlalchemy", "seeds", "debian", "hdiffpatch"}
