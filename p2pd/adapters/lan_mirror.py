# SPDX-License-Identifier: Apache-2.0
"""Serves the verified metadata of this endpoint to its segment: static files, read only, over mutual TLS."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles


def mirror_app(mirror: Path) -> Starlette:
    """The directories that a trust client asks for, and nothing else below `mirror`. No links are followed."""
    for part in ("metadata", "targets"):
        (mirror / part).mkdir(mode=0o700, parents=True, exist_ok=True)
    return Starlette(
        routes=[Mount(f"/{part}", StaticFiles(directory=mirror / part)) for part in ("metadata", "targets")]
    )
