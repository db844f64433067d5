# SPDX-License-Identifier: Apache-2.0
"""What comes in one answer is verified as if each file had been asked for; what does not come is asked for."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from p2pd.ports_control import FromDisk
from signing.edition_news import decode_news, encode_news, news_name
from signing.errors import NotSigned, RolledBack, SigningError, SourceUnavailable
from signing.manifest import Manifest
from signing.reasons import Reason
from tests.p2pd.adapters.trust_scene import ALL, RELEASES, Scene, digest, names
from tests.signing.fleet_documents import add_release, make_manifest


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def publish_another(scene: Scene) -> Manifest:
    """A release that was not there before, on offer with all others."""
    newcomer = make_manifest("1.0", 1, product="newcomer")
    add_release(scene.fleet, newcomer)
    scene.offer(*RELEASES, newcomer)
    scene.fleet.release("patches", "schedules")
    return newcomer


async def test_news_bring_everything_in_one_answer(scene: Scene) -> None:
    scene.tell_news()
    await scene.refresh()
    publish_another(scene)
    version = scene.tell_news()
    scene.origin.asked = 0
    trusted = await scene.refresh(newest=version)
    assert names(trusted) == [*ALL, ("newcomer", "1.0")]
    assert (trusted.general_problem, trusted.problems, scene.origin.asked) == (None, (), 1)
    assert trusted == await scene.refresh()
    assert await scene.restarted().refresh(FromDisk()) == trusted


async def test_without_news_every_file_is_asked_for(scene: Scene) -> None:
    await scene.refresh()
    publish_another(scene)
    trusted = await scene.refresh(newest=scene.fleet.timestamp.version)
    assert names(trusted) == [*ALL, ("newcomer", "1.0")]
    scene.fleet.files[f"metadata/{news_name(7)}"] = b"\x00 a page of a captive portal"
    assert await scene.refresh(newest=7) == trusted


async def test_who_missed_an_edition_asks_for_what_the_news_lack(scene: Scene) -> None:
    await scene.refresh()
    publish_another(scene)
    scene.tell_news()
    scene.recall(RELEASES[0])
    trusted = await scene.refresh(newest=scene.tell_news())
    assert trusted.recalls.withdraws(digest(RELEASES[0]))
    assert names(trusted) == [*ALL, ("newcomer", "1.0")]


async def test_a_new_root_is_followed_though_the_news_hold_none(scene: Scene) -> None:
    await scene.refresh()
    scene.fleet.publish("root")
    publish_another(scene)
    scene.tell_news()
    scene.offer(*RELEASES)
    scene.fleet.release("schedules")
    await scene.refresh(newest=scene.tell_news())
    assert (scene.directory / "trust" / "metadata" / "root_history" / "2.root.json").exists()


@pytest.mark.parametrize(("is_old", "error"), [(False, NotSigned), (True, RolledBack)])
async def test_what_the_news_say_is_verified(scene: Scene, is_old: bool, error: type[SigningError]) -> None:
    old = scene.fleet.files["metadata/timestamp.json"]
    publish_another(scene)
    before = await scene.refresh()
    scene.recall(RELEASES[0])
    forged = re.sub(rb'"sig": ?"[0-9a-f]{8}', b'"sig":"00000000', scene.fleet.files["metadata/timestamp.json"])
    version = scene.tell_news(**{"timestamp.json": old if is_old else forged})
    with pytest.raises(error):
        await scene.refresh(newest=version)
    after = await scene.refresh()  # by name the truth is to be had
    assert (before.recalls.recalls, len(after.recalls.recalls)) == ((), 1)


async def test_a_target_in_the_news_is_verified(scene: Scene) -> None:
    await scene.refresh()
    newcomer = publish_another(scene)
    version = scene.tell_news()
    path = f"metadata/{news_name(version)}"
    news = decode_news(scene.fleet.files[path])
    spoilt = {name: data[:-1] + b"?" if name.endswith("manifest") else data for name, data in news.targets.items()}
    scene.fleet.files[path] = encode_news(replace(news, targets=spoilt))
    trusted = await scene.refresh(newest=version)
    assert [(problem.product, problem.reason) for problem in trusted.problems] == [
        (newcomer.product, Reason.PAYLOAD_MISMATCH)
    ]


async def test_an_origin_that_goes_away_fails_the_refresh_at_once(scene: Scene) -> None:
    await scene.refresh()
    publish_another(scene)
    version = scene.tell_news()
    scene.origin.answers_left, scene.origin.asked = 0, 0
    with pytest.raises(SourceUnavailable):
        await scene.refresh(newest=version)
    assert scene.origin.asked == 1
