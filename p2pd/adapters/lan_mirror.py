# SPDX-License-Identifier: Apache-2.0
"""Serves the verified metadata and small payloads of this endpoint to its segment, read only, over mutual TLS."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from p2pd.adapters.small_frames import ROUTE
from p2pd.adapters.small_peers import SmallDesk, payloads_endpoint
from p2pd.host.http_bounds import HttpLimits
from p2pd.ports_small import SmallShelf

MIRROR_LIMITS = HttpLimits(
    max_connections=128,  # some 200 kB each, with an answer under way
    max_connections_each=12,  # an honest peer has four questions here, and two for metadata
)


def mirror_app(mirror: Path, shelf: SmallShelf) -> Starlette:
    """The directories that a trust client asks for, and nothing else below `mirror`; and what `shelf` holds.

    No links are followed.
    """
    for part in ("metadata", "targets"):
        (mirror / part).mkdir(mode=0o700, parents=True, exist_ok=True)
    files = [Mount(f"/{part}", StaticFiles(directory=mirror / part)) for part in ("metadata", "targets")]
    return Starlette(routes=[*files, Route(ROUTE, payloads_endpoint(SmallDesk(shelf)), methods=["POST"])])
