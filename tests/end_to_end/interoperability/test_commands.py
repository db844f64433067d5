# SPDX-License-Identifier: Apache-2.0
"""The command line itself: exit codes, words on stderr, real processes, HTTPS."""

import os
import ssl
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from signing.devices import create_server_identity
from tests.end_to_end.interoperability.trust_lab import TrustLab, serving
from tests.signing.repository_simulator import RepositorySimulator


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Usage"),
        (("--help-me",), "No such option"),
        (("refresh",), "--metadata-dir"),
        (("--metadata-dir", "m", "refresh"), "--metadata-url"),
        (("--metadata-dir", "m", "init"), "ROOT.json"),
        (("--metadata-dir", "m", "init", "absent.json"), "absent.json"),
        (("--metadata-dir", "m", "--metadata-url", "http://127.0.0.1:1/", "download"), "--target-name"),
        (("--metadata-dir", "m", "--metadata-url", "u", "--target-name", "x", "download"), "--target-base-url"),
        (("--metadata-dir", "m", "--metadata-url", "nonsense", "refresh"), "holds no trusted root"),
        (("--metadata-dir", "m", "explode"), "No such command"),
    ],
)
def test_wrong_usage_exits_with_1_and_says_what_is_missing(
    lab: TrustLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert lab.run(*arguments) == 1
    assert words in lab.said
    assert "Traceback" not in lab.said


def test_init_makes_the_directory_and_asks_nobody(lab: TrustLab) -> None:
    assert lab.init() == 0
    assert lab.trusted() == {"root": 1}
    assert lab.asked() == []


def test_init_refuses_a_second_repository_in_the_same_directory(lab: TrustLab) -> None:
    assert lab.init() == 0
    assert lab.init() == 0
    assert lab.init(RepositorySimulator(datetime.now(UTC)).files["metadata/1.root.json"]) == 1
    assert "already trusts another root" in lab.said


def test_a_server_that_does_not_answer(lab: TrustLab) -> None:
    assert lab.init() == 0
    lab.url = "http://127.0.0.1:1"
    assert lab.refresh() == 1
    assert "127.0.0.1:1" in lab.said
    assert "refused" in lab.said


def test_a_metadata_directory_that_is_a_file(lab: TrustLab) -> None:
    lab.metadata_dir.write_bytes(b"")
    assert lab.init() == 1
    assert lab.refresh() == 1
    assert str(lab.metadata_dir) in lab.said


def test_endless_metadata(lab: TrustLab) -> None:
    assert lab.init() == 0
    lab.repository.endless.add("metadata/timestamp.json")
    assert lab.refresh() == 1
    assert "longer than 16384 bytes" in lab.said


class TestAsAProcess:
    def test_over_http(self, lab: TrustLab, tmp_path: Path) -> None:
        lab.repository.add_target("targets", "folder/tool.bin", b"content")
        lab.repository.release("targets")
        root = tmp_path / "root.json"
        root.write_bytes(lab.repository.files["metadata/1.root.json"])
        metadata = ("--metadata-dir", str(tmp_path / "m"))
        assert run(*metadata, "init", str(root)).returncode == 0
        assert run(*metadata, "--metadata-url", f"{lab.url}/metadata", "refresh").returncode == 0
        command = run(
            *(*metadata, "--metadata-url", f"{lab.url}/metadata", "--target-name", "folder/tool.bin"),
            *("--target-name", "absent", "--target-base-url", f"{lab.url}/targets"),
            *("--target-dir", str(tmp_path / "t"), "download"),
        )
        assert command.returncode == 1
        assert command.stderr == "Error: absent: no trusted role signs a target of this name\n"
        assert (tmp_path / "t" / "folder%2Ftool.bin").read_bytes() == b"content"

    def test_over_https_by_the_authority_in_the_environment(self, tmp_path: Path) -> None:
        now = datetime.now(UTC)
        identity = create_server_identity(["127.0.0.1"], now=now)
        for name, pem in (("chain", identity.certificate_pem), ("key", identity.key_pem), ("ca", identity.ca_pem)):
            (tmp_path / name).write_bytes(pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "chain", tmp_path / "key")
        repository = RepositorySimulator(now)
        (tmp_path / "root.json").write_bytes(repository.files["metadata/1.root.json"])
        with serving(repository, context) as url:
            metadata = ("--metadata-dir", str(tmp_path / "m"))
            assert run(*metadata, "init", str(tmp_path / "root.json")).returncode == 0
            refresh = (*metadata, "--metadata-url", f"{url}/metadata/", "refresh")
            assert run(*refresh, SSL_CERT_FILE=str(tmp_path / "ca")).returncode == 0
            stranger = run(*refresh)
        assert stranger.returncode == 1
        assert "certificate verify failed" in stranger.stderr
        assert "Traceback" not in stranger.stderr


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SSL_CERT")}
    return subprocess.run(
        [sys.executable, "-m", "p2pd.trust_cli", *arguments],
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
