# SPDX-License-Identifier: Apache-2.0
"""`p2pctl` as an administrator types it: two people sign, nothing half-signed gets out, mistakes are named."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from seeds.cli import main
from seeds.fleet import Fleet
from signing.manifest import SMALL_BYTES
from signing.repository import Repository
from signing.repository_files import RepositoryFiles
from signing.token import EnrolmentToken
from tests.seeds.fleet_kit import OFFLINE, ONLINE

P2pctl = Callable[..., Result]


@pytest.fixture
def p2pctl(fleet: Fleet, tmp_path: Path) -> P2pctl:
    """Runs one command on the test's fleet, with passphrases in files."""
    for name, passphrase in (("offline", OFFLINE), ("online", ONLINE)):
        (tmp_path / name).write_bytes(passphrase + b"\n")
    environment = {
        "P2PCTL_FLEET": str(fleet.directory),
        "P2PCTL_OFFLINE_PASSPHRASE_FILE": str(tmp_path / "offline"),
        "P2PCTL_ONLINE_PASSPHRASE_FILE": str(tmp_path / "online"),
        "COLUMNS": "200",
    }

    def run(*argv: str | Path) -> Result:
        return CliRunner().invoke(main, [str(argument) for argument in argv], env=environment, catch_exceptions=False)

    return run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tiny release, which travels without torrents."""
    directory = tmp_path / "app"
    directory.mkdir()
    (directory / "hello").write_text("hello\n")
    return directory


@pytest.fixture
def large_source(source: Path) -> Path:
    """The same with so much beside it that it needs torrents."""
    (source / "noise").write_bytes(random.Random("noise").randbytes(SMALL_BYTES + 1))  # noqa: S311 (only bytes that do not compress)
    return source


def ok(result: Result) -> Any:
    assert result.exit_code == 0, result.output + result.stderr
    return json.loads(result.stdout)


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    for word in words:
        assert word in result.stderr


def test_a_release_goes_out_once_two_people_have_signed(p2pctl: P2pctl, source: Path, fleet: Fleet) -> None:
    built = ok(p2pctl("patch", "build", "app", "1.0", source, "--check-command", "test -f {slot}/hello", "--json"))
    assert built["release_counter"] == 1
    assert set(built["transports"][0]["segments"]) == {"office", "lab"}
    assert built["transports"][0]["torrents"] == []
    first, second = fleet.config.uris_of("patches")

    assert ok(p2pctl("patch", "sign", "--key", first, "--json")) == {"role": "patches", "signatures": 1, "needed": 2}
    refused(p2pctl("patch", "publish"), "1 of 2 signatures")
    assert [release["state"] for release in ok(p2pctl("patch", "list", "--json"))] == ["1 of 2 signatures"]

    assert ok(p2pctl("patch", "sign", "--key", second, "--json"))["signatures"] == 2
    published = ok(p2pctl("patch", "publish", "--json"))
    assert [release["version"] for release in published["published"]] == ["1.0"]
    assert published["served"] is None  # no coordinator runs
    assert ok(p2pctl("patch", "show", "app", "1.0", "--json"))["state"] == "published"
    digest = built["transports"][0]["content"]["sha256"]
    assert (fleet.payloads / digest).stat().st_size == built["transports"][0]["content"]["size"]


def test_a_small_release_has_torrents_if_older_agents_need_them(p2pctl: P2pctl, source: Path) -> None:
    """And counts, signs and publishes as any other."""
    built = ok(p2pctl("patch", "build", "app", "1.0", source, "--torrents", "--json"))
    (transport,) = built["transports"]
    assert transport["content"]["size"] <= SMALL_BYTES
    assert [torrent["segment"] for torrent in transport["torrents"]] == ["lab", "office"]
    assert not transport["segments"]
    ok(p2pctl("patch", "sign", "--json"))
    ok(p2pctl("patch", "publish", "--json"))
    assert ok(p2pctl("patch", "show", "app", "1.0", "--json"))["state"] == "published"


def test_the_next_release_counts_on_and_a_version_is_never_reused(p2pctl: P2pctl, source: Path) -> None:
    ok(p2pctl("patch", "build", "app", "1.0", source, "--json"))
    ok(p2pctl("patch", "sign", "--json"))
    ok(p2pctl("patch", "publish", "--json"))
    assert ok(p2pctl("patch", "build", "app", "1.1", source, "--json"))["release_counter"] == 2
    refused(p2pctl("patch", "build", "app", "1.0", source), "app 1.0", "exists already", "choose another version")
    refused(p2pctl("patch", "build", "app", "1.2", source, "--counter", "1"), "release counter 1 is not new", "use 3")


def test_a_withdrawn_release_is_shown_as_such(p2pctl: P2pctl, source: Path) -> None:
    ok(p2pctl("patch", "build", "app", "1.0", source, "--json"))
    ok(p2pctl("patch", "sign", "--json"))
    ok(p2pctl("patch", "publish", "--json"))
    ok(p2pctl("patch", "withdraw", "app", "1.0", "--why", "breaks printing", "--json"))
    assert [release["state"] for release in ok(p2pctl("patch", "list", "--json"))] == ["withdrawn"]
    refused(p2pctl("patch", "withdraw", "app", "1.0", "--why", "again"), "withdrawn already")
    refused(p2pctl("patch", "withdraw", "app", "9", "--why", "x"), "is not published", "p2pctl patch list")


def test_a_failed_build_leaves_nothing_behind(p2pctl: P2pctl, fleet: Fleet, tmp_path: Path) -> None:
    refused(p2pctl("patch", "build", "app", "1.0", tmp_path / "missing"), "missing")
    refused(p2pctl("patch", "build", "App!", "1.0", tmp_path), "App!")
    assert list(fleet.staged_payloads.iterdir()) == []
    assert ok(p2pctl("patch", "list", "--json")) == []
    refused(p2pctl("patch", "sign"), "nothing waits to be signed")


@pytest.mark.parametrize("kept", [0, 1, 40, -1])
def test_a_truncated_manifest_is_refused_by_name(p2pctl: P2pctl, source: Path, tmp_path: Path, kept: int) -> None:
    ok(p2pctl("patch", "build", "app", "1.0", source, "--json"))
    ok(p2pctl("patch", "sign", "--json"))
    ok(p2pctl("patch", "publish", "--json"))
    manifest = next((tmp_path / "fleet" / "repository" / "targets" / "patches").rglob("*.manifest"))
    assert ok(p2pctl("patch", "show", manifest, "--json"))["product"] == "app"
    damaged = tmp_path / "damaged.manifest"
    damaged.write_bytes(manifest.read_bytes()[:kept])
    refused(p2pctl("patch", "show", damaged), "damaged.manifest")


def test_a_torrent_file_is_shown_and_a_truncated_one_refused(
    p2pctl: P2pctl, large_source: Path, tmp_path: Path
) -> None:
    built = ok(p2pctl("patch", "build", "app", "1.0", large_source, "--json"))
    assert {torrent["segment"] for torrent in built["transports"][0]["torrents"]} == {"office", "lab"}
    ok(p2pctl("patch", "sign", "--json"))
    ok(p2pctl("patch", "publish", "--json"))
    torrent = next((tmp_path / "fleet" / "repository" / "targets" / "patches").rglob("*.lab.torrent"))
    assert ok(p2pctl("patch", "show", torrent, "--json"))["segment"] == "lab"
    (tmp_path / "cut.torrent").write_bytes(torrent.read_bytes()[:100])
    refused(p2pctl("patch", "show", tmp_path / "cut.torrent"), "cut.torrent")


POLICY = """
version = 2
segments = ["office", "lab"]
[[rings]]
name = "canary"
percent = 10.0
at_least = 1
[[rings]]
name = "everyone"
"""


def test_a_policy_is_checked_applied_and_shown(p2pctl: P2pctl, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY)
    assert ok(p2pctl("policy", "check", policy, "--json"))["version"] == 2
    assert ok(p2pctl("policy", "show", "--json"))["version"] == 1
    assert ok(p2pctl("policy", "apply", policy, "--json")) == {"version": 2, "served": None}
    assert ok(p2pctl("policy", "show", "--json"))["rings"][0]["percent"] == 10.0
    refused(p2pctl("policy", "apply", policy), "version 2 is not newer", "count up")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (POLICY.replace("percent", "percnt"), ["percnt", "did you mean 'percent'?"]),
        (POLICY.replace("10.0", '"ten"'), ["percent", "expected float"]),
        (POLICY.replace('"everyone"', '"canary"'), ["rings names something twice"]),
        (POLICY.replace("[[rings]]", "[rings", 1), ["not valid TOML", "line"]),
        (POLICY.replace("version = 2", ""), ["'version' is missing"]),
    ],
)
def test_a_wrong_policy_is_refused_by_file_and_key(
    p2pctl: P2pctl, tmp_path: Path, wrong: str, words: list[str]
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(wrong)
    refused(p2pctl("policy", "check", policy), "policy.toml", *words)


def test_a_token_carries_the_coordinators_fingerprints(p2pctl: P2pctl, fleet: Fleet) -> None:
    made = ok(p2pctl("enroll-token", "--segment", "lab", "--site", "north", "--uses", "3", "--json"))
    token = EnrolmentToken.decode(made["token"])
    assert token.url == fleet.config.public_url
    assert token.ca_sha256 == fleet.pins().ca_sha256
    refused(p2pctl("enroll-token", "--segment", "moon"), "no segment 'moon'", "lab")
    refused(p2pctl("enroll-token", "--hours", "0"), "seconds")


def test_offline_metadata_gets_a_new_life(p2pctl: P2pctl, source: Path, fleet: Fleet) -> None:
    repository = Repository(fleet.repository)
    files = RepositoryFiles(fleet.repository)
    before = repository.expiries()
    old = {role: files.newest_version(role) for role in before}
    renewed = ok(p2pctl("renew", "--json"))["renewed"]
    after = Repository(fleet.repository).expiries()
    assert set(renewed) == {"root", "targets", "patches", "policies", "recalls"}
    # Expiries are whole seconds: a renewal in the second of the signature before it ends in the same second.
    assert all(after[role] >= before[role] for role in renewed)
    assert {role: files.newest_version(role) for role in renewed} == {role: old[role] + 1 for role in renewed}
    ok(p2pctl("patch", "build", "app", "1.0", source, "--json"))
    refused(p2pctl("renew", "--role", "patches"), "patches", "waits for signatures")
    assert list(ok(p2pctl("renew", "--role", "recalls", "--json"))["renewed"]) == ["recalls"]


def test_a_wrong_passphrase_signs_nothing(p2pctl: P2pctl, source: Path, tmp_path: Path) -> None:
    ok(p2pctl("patch", "build", "app", "1.0", source, "--json"))
    (tmp_path / "offline").write_bytes(b"not the passphrase")
    result = p2pctl("patch", "sign")
    refused(result, "passphrase")
    assert "not the passphrase" not in result.stderr


def test_status_tells_the_fleet_without_a_coordinator(p2pctl: P2pctl) -> None:
    facts = ok(p2pctl("status", "--json"))
    assert facts["devices"] == []
    assert facts["metadata"]["timestamp"]["hours_left"] > 0
    assert "no devices yet" in p2pctl("status").stdout


def test_a_directory_that_is_no_fleet_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--fleet", str(tmp_path), "status"])
    refused(result, "is no fleet directory", "p2pctl init")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--public", "nowhere"], ["--public", "HOST:PORT"]),
        (["--segment", "No Segment"], ["segment"]),
        (["--release-threshold", "3"], ["release_threshold"]),
        (["--canary-percent", "101"], ["percent"]),
    ],
)
def test_init_refuses_what_cannot_be(tmp_path: Path, options: list[str], words: list[str]) -> None:
    result = CliRunner().invoke(main, ["--fleet", str(tmp_path / "new"), "init", "--name", "localhost", *options])
    refused(result, *words)
    assert not (tmp_path / "new").exists()


def test_init_prints_which_key_may_do_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signing.encrypted_pkcs8._SCRYPT_N", 2)
    (tmp_path / "offline").write_bytes(OFFLINE)
    (tmp_path / "online").write_bytes(ONLINE)
    argv = ["--fleet", str(tmp_path / "new"), "init", "--name", "localhost", "--release-keys", "3"]
    argv += [
        "--offline-passphrase-file",
        str(tmp_path / "offline"),
        "--online-passphrase-file",
        str(tmp_path / "online"),
    ]
    result = CliRunner().invoke(main, argv, catch_exceptions=False, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.stderr
    assert "2 of 3" in result.stdout
    assert "keys/offline" in result.stdout
    secrets = [path for path in (tmp_path / "new").rglob("*") if "key" in path.name and path.is_file()]
    assert secrets
    assert all(path.stat().st_mode & 0o077 == 0 for path in secrets)
