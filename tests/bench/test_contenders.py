# SPDX-License-Identifier: Apache-2.0
"""What contenders are made of, as far as it needs no lab."""

from pathlib import Path

import libtorrent as lt
import pytest

from bench.contenders.all import CONTENDERS, contender_named
from bench.contenders.daemons import mark_time, write_marker
from bench.contenders.http import nginx_config
from bench.contenders.swarm import PIECE_BYTES, make_torrent
from bench.lab.fleet import served_payload_bytes
from bench.lab.processes import open_processes
from bench.scenes import SCENES
from signing.errors import BadInput


def test_contenders_by_name() -> None:
    assert contender_named("p2pd") is CONTENDERS["p2pd"]
    with pytest.raises(BadInput, match="p2pd, aria2, libtorrent, transmission, uftp"):
        contender_named("rsync")


def test_only_multicast_stays_away_from_sites() -> None:
    away = {(scene, name) for scene in SCENES for name, one in CONTENDERS.items() if one.why_not(SCENES[scene])}
    assert away == {(scene, "uftp") for scene in SCENES if scene.startswith("sites")}


async def test_a_marker_leaves_its_mark(tmp_path: Path) -> None:
    mark = tmp_path / "finished"
    marker = write_marker(tmp_path / "script", mark)
    assert mark_time(mark) is None
    async with open_processes() as processes:
        assert (await processes.run([str(marker), "whatever", "it is called with"])).status == 0
    assert mark_time(mark) == pytest.approx(mark.stat().st_ctime)


def test_the_torrent_of_all_swarms(tmp_path: Path) -> None:
    payload = tmp_path / "payload"
    payload.write_bytes(b"x" * (2 * PIECE_BYTES + 1))
    torrent = lt.load_torrent_buffer(make_torrent(payload, "http://10.0.0.1:6969/announce"))
    assert torrent.ti is not None
    assert (torrent.ti.num_pieces(), torrent.ti.total_size()) == (3, 2 * PIECE_BYTES + 1)
    assert torrent.trackers == ["http://10.0.0.1:6969/announce"]
    assert not torrent.info_hashes.has_v2()


def test_nginx_serves_the_payload_and_logs_bytes() -> None:
    config = nginx_config("10.0.0.1", Path("/somewhere/payload"))
    assert "listen 10.0.0.1:8080;" in config
    assert "root '/somewhere';" in config
    assert "access_log access.log bytes;" in config


def test_payload_bytes_among_all_that_a_coordinator_served() -> None:
    metrics = (
        "# TYPE seeds_bytes_served counter\n"
        'seeds_bytes_served_total{kind="payloads"} 1.048576e+06\n'
        'seeds_bytes_served_total{kind="metadata"} 77.0\n'
        "# TYPE something gauge\n"
        'something{kind="payloads"} 3.0\n'
    )
    assert served_payload_bytes(metrics) == 1_048_576
    assert served_payload_bytes("") == 0
