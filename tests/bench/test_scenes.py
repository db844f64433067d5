# SPDX-License-Identifier: Apache-2.0
"""Physical limits, by hand."""

import pytest

from bench.lab.topology import LinkSpec, SiteSpec, Topology
from bench.scenes import MB, SCENES, narrowest_link, scene_named
from signing.errors import BadInput


@pytest.mark.parametrize(
    ("name", "endpoints", "is_flat", "seconds"),
    [
        ("flat-10", 10, True, 10.24),
        ("flat-40", 40, True, 25.6),
        ("sites-3x5", 15, False, 10.24),
        ("sites-3x5-lossy", 15, False, 10.24),
        ("sites-3x5-killed", 15, False, 10.24),
    ],
)
def test_scenes_are_those_of_the_targets(name: str, endpoints: int, is_flat: bool, seconds: float) -> None:
    scene = scene_named(name)
    assert (scene.endpoints, scene.is_flat) == (endpoints, is_flat)
    assert scene.limit_seconds(scene.payload_bytes) == pytest.approx(seconds)
    assert scene.kills_busiest == name.endswith("killed")


def test_every_scene_has_its_topology() -> None:
    assert all(scene.topology.sites for scene in SCENES.values())


def test_the_narrowest_link_that_all_bytes_must_cross() -> None:
    wan = LinkSpec(up=1 * MB, down=50 * MB)
    sites = (SiteSpec(name="one", hosts=2, lan=LinkSpec()), SiteSpec(name="two", hosts=2, lan=LinkSpec(), wan=wan))
    assert narrowest_link(Topology(sites=sites), where="here") == 50 * MB
    origin = LinkSpec(up=10 * MB, down=1 * MB)
    assert narrowest_link(Topology(origin=origin, sites=sites), where="here") == 10 * MB
    slow_up = LinkSpec(up=8_000, down=200 * MB)
    assert narrowest_link(Topology(sites=(SiteSpec(name="one", hosts=2, lan=slow_up),)), where="here") == 200 * MB


def test_no_limit_no_scene() -> None:
    with pytest.raises(BadInput, match="no link has a limit"):
        narrowest_link(Topology(sites=(SiteSpec(name="one", hosts=2),)), where="here")
    with pytest.raises(BadInput, match="flat-10, flat-40, sites-3x5"):
        scene_named("flat-11")
