# SPDX-License-Identifier: Apache-2.0
"""A rate of 0 means no limit to libtorrent, and nothing at all to us."""

import pytest

from p2pd.adapters.torrent_settings import rate_settings


@pytest.mark.parametrize(
    ("upload", "slots", "rate"),
    [(None, -1, 0), (0, 0, 0), (5_000, -1, 5_000)],
)
def test_an_upload_of_nothing_chokes_every_peer(upload: int | None, slots: int, rate: int) -> None:
    settings = rate_settings(upload, 7_000)
    assert settings["unchoke_slots_limit"] == slots
    assert settings["upload_rate_limit"] == settings["local_upload_rate_limit"] == rate
    assert settings["download_rate_limit"] == settings["local_download_rate_limit"] == 7_000
