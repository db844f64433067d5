# SPDX-License-Identifier: Apache-2.0
"""Signed files and payloads are served as a CDN would, and nothing else on the disk is."""

import hashlib
from pathlib import Path

import pytest

from signing.many_targets import MAX_TARGET_BYTES, unpack
from tests.seeds.adapters.conftest import Origin

PAYLOAD = bytes(range(256)) * 40
SHA256 = hashlib.sha256(PAYLOAD).hexdigest()
FOREVER = "public, max-age=31536000, immutable"


@pytest.fixture
def payload(origin: Origin) -> str:
    origin.put(f"payloads/{SHA256}", PAYLOAD)
    return f"/payloads/{SHA256}"


async def test_versioned_metadata_may_be_cached_for_ever(origin: Origin) -> None:
    origin.put("metadata/3.root.json", b'{"root": 3}')
    answer = await origin.public.get("/metadata/3.root.json")
    assert (answer.status_code, answer.content) == (200, b'{"root": 3}')
    assert answer.headers["cache-control"] == FOREVER
    assert answer.headers["content-type"] == "application/json"


async def test_the_timestamp_is_asked_for_each_time_and_sent_only_when_new(origin: Origin) -> None:
    origin.put("metadata/timestamp.json", b'{"version": 1}')
    first = await origin.public.get("/metadata/timestamp.json")
    assert first.headers["cache-control"] == "no-cache"

    known = {"if-none-match": first.headers["etag"]}
    assert (await origin.public.get("/metadata/timestamp.json", headers=known)).status_code == 304
    origin.put("metadata/timestamp.json", b'{"version": 2}')
    again = await origin.public.get("/metadata/timestamp.json", headers=known)
    assert (again.status_code, again.json()) == (200, {"version": 2})


async def test_targets_come_by_their_hash(origin: Origin) -> None:
    path = f"targets/patches/libc++/1.0~rc1:2/{SHA256}.manifest"
    origin.put(path, b"manifest")
    answer = await origin.public.get(f"/{path}")
    assert (answer.status_code, answer.content) == (200, b"manifest")
    assert (answer.headers["cache-control"], answer.headers["etag"]) == (FOREVER, f'"{SHA256}"')


async def test_a_payload_comes_whole(origin: Origin, payload: str) -> None:
    answer = await origin.public.get(payload)
    assert (answer.status_code, answer.content) == (200, PAYLOAD)
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-length"] == str(len(PAYLOAD))


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=256-511", 256, 512),
        ("bytes=10000-", 10_000, 10_240),
        ("bytes=-240", 10_000, 10_240),
    ],
)
async def test_a_payload_comes_by_range(origin: Origin, payload: str, asked: str, start: int, end: int) -> None:
    answer = await origin.public.get(payload, headers={"range": asked})
    assert (answer.status_code, answer.content) == (206, PAYLOAD[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(PAYLOAD)}"
    assert answer.headers["content-length"] == str(end - start)


async def test_a_range_beyond_the_end_is_not_satisfiable(origin: Origin, payload: str) -> None:
    answer = await origin.public.get(payload, headers={"range": "bytes=10240-10300"})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(PAYLOAD)}"


async def test_a_range_is_of_the_file_that_the_client_began_with(origin: Origin, payload: str) -> None:
    asked = {"range": "bytes=0-9", "if-range": f'"{SHA256}"'}
    assert (await origin.public.get(payload, headers=asked)).status_code == 206
    asked["if-range"] = '"another"'
    answer = await origin.public.get(payload, headers=asked)
    assert (answer.status_code, answer.content) == (200, PAYLOAD)


async def test_head_tells_the_size_without_the_bytes(origin: Origin, payload: str) -> None:
    answer = await origin.public.head(payload)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(len(PAYLOAD))


@pytest.mark.parametrize(
    "path",
    [
        "/metadata/7.root.json",  # not there, yet well-formed
        "/metadata/secret.txt",
        "/metadata/0.root.json",
        "/metadata/..%2fsecret.txt",
        "/metadata/%2e%2e/secret.txt",
        f"/targets/../{'0' * 64}.secret",
        f"/targets/%2e%2e/{'0' * 64}.secret",
        f"/targets/a/..%2f../{'0' * 64}.secret",
        f"/targets//{'0' * 64}.secret",
        f"/targets/.hidden/{'0' * 64}.secret",
        f"/targets/{'a/' * 9}{'0' * 64}.secret",
        f"/targets/{'a' * 600}/{'0' * 64}.secret",
        "/targets/plain.txt",
        "/payloads/.staged",
        f"/payloads/.staged%2f{'0' * 64}",
        f"/payloads/{'0' * 63}",
        f"/payloads/{'A' * 64}",
        f"/payloads/{'0' * 64}%00",
        "/payloads/",
        "/secret.txt",
    ],
)
async def test_no_other_name_is_served(origin: Origin, path: str) -> None:
    secret = b"not for anybody"
    names = ("secret.txt", "metadata/secret.txt", "metadata/0.root.json", "targets/plain.txt")
    for name in (*names, f"{'0' * 64}.secret", f"targets/.hidden/{'0' * 64}.secret", f"payloads/.staged/{'0' * 64}"):
        origin.put(name, secret)
    answer = await origin.public.get(path)
    assert answer.status_code == 404
    assert secret not in answer.content
    assert answer.json()["reason"] is None


async def test_links_are_not_followed(origin: Origin, tmp_path: Path) -> None:
    outside = origin.put("outside/secret", PAYLOAD)
    (tmp_path / "payloads" / SHA256).symlink_to(outside)
    (tmp_path / "metadata" / "3.root.json").symlink_to(outside)
    (tmp_path / "targets" / "linked").symlink_to(outside.parent)
    origin.put(f"outside/{SHA256}.x", PAYLOAD)
    for path in (f"/payloads/{SHA256}", "/metadata/3.root.json", f"/targets/linked/{SHA256}.x"):
        assert (await origin.public.get(path)).status_code == 404


async def test_directories_and_pipes_are_not_files(origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "payloads" / SHA256).mkdir()
    assert (await origin.public.get(f"/payloads/{SHA256}")).status_code == 404


async def test_what_is_missing_today_may_be_asked_for_tomorrow(origin: Origin) -> None:
    answer = await origin.public.get("/metadata/7.root.json")
    assert answer.headers["cache-control"] == "no-cache"


async def test_bytes_and_requests_are_counted_by_kind(origin: Origin, payload: str) -> None:
    await origin.public.get(payload, headers={"range": "bytes=0-99"})
    await origin.public.get("/admin.php")
    assert origin.count("seeds_bytes_served_total", kind="payloads") == 100
    assert origin.count("seeds_requests_total", route="payloads", status="206") == 1
    assert origin.count("seeds_requests_total", route="other", status="404") == 1


async def test_many_small_targets_come_in_one_answer(origin: Origin) -> None:
    names = [f"patches/app-{number}/1.0/{SHA256}.manifest" for number in range(3)]
    for name in names:
        origin.put(f"targets/{name}", name.encode())
    asked = [names[2], f"patches/gone/1.0/{SHA256}.manifest", "../metadata/timestamp.json", names[0]]
    origin.put("metadata/timestamp.json", b"{}")
    answer = await origin.public.post("/targets", json={"names": asked})
    assert answer.status_code == 200
    assert unpack(answer.content, most=4) == [names[2].encode(), b"", b"", names[0].encode()]


async def test_a_target_that_is_large_comes_alone(origin: Origin) -> None:
    name = f"patches/app/1.0/{SHA256}.torrent"
    origin.put(f"targets/{name}", b"x" * (MAX_TARGET_BYTES + 1))
    answer = await origin.public.post("/targets", json={"names": [name]})
    assert unpack(answer.content, most=1) == [b""]
    assert len((await origin.public.get(f"/targets/{name}")).content) == MAX_TARGET_BYTES + 1


@pytest.mark.parametrize("body", [{}, [], {"names": []}, {"names": [1]}, {"names": "x"}, {"names": ["x"] * 513}])
async def test_questions_for_targets_that_make_no_sense_are_refused(origin: Origin, body: object) -> None:
    assert (await origin.public.post("/targets", json=body)).status_code == 400
