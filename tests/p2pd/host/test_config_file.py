# SPDX-License-Identifier: Apache-2.0
"""Tests of p2pd.host.config_file."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from p2pd.host import config_file
from p2pd.host.config_file import load_config
from signing.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class Swarm:
    """Part of a configuration."""

    upload_bytes_per_second: int = 4_000_000


@dataclass(frozen=True, kw_only=True)
class Config:
    """A configuration."""

    state_dir: Path
    interfaces: tuple[str, ...] = ()
    swarm: Swarm = Swarm()

    def __post_init__(self) -> None:
        if "0.0.0.0" in self.interfaces:  # noqa: S104 (it is refused)
            raise ValueError("interfaces must be named")


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "p2pd.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(BadInput) as refused:
        load_config(Config, path)
    assert str(refused.value).startswith(str(path))
    return str(refused.value)


def test_a_file_becomes_a_config(tmp_path: Path) -> None:
    path = written(tmp_path, 'state_dir = "/var/lib/p2pd"\ninterfaces = ["lo"]\n[swarm]\nupload_bytes_per_second = 5\n')
    assert load_config(Config, path) == Config(
        state_dir=Path("/var/lib/p2pd"), interfaces=("lo",), swarm=Swarm(upload_bytes_per_second=5)
    )


def test_an_unknown_key_is_named_with_the_nearest(tmp_path: Path) -> None:
    text = refusal(written(tmp_path, 'state_dir = "/x"\n[swarm]\nupload_bytes_per_sec = 5\n'))
    assert "swarm: unknown key 'upload_bytes_per_sec'; did you mean 'upload_bytes_per_second'?" in text


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    assert "key 'state_dir' is missing" in refusal(written(tmp_path, ""))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("state_dir = 5", "state_dir: expected a path, found int"),
        ('state_dir = ""', "state_dir: expected a path, found ''"),
        ("state_dir = 2026-01-01", "state_dir: expected a path, found date"),
        ('state_dir = "/x"\nswarm = 3', "swarm: expected a table of keys, found int"),
        ('state_dir = "/x"\ninterfaces = ["0.0.0.0"]', "interfaces must be named"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, text: str, problem: str) -> None:
    assert problem in refusal(written(tmp_path, text))


def test_a_syntax_error_keeps_its_line(tmp_path: Path) -> None:
    assert "line 2" in refusal(written(tmp_path, 'state_dir = "/x"\ninterfaces = ]\n'))


def test_a_key_twice_is_a_syntax_error(tmp_path: Path) -> None:
    assert "is not valid TOML" in refusal(written(tmp_path, 'state_dir = "/x"\nstate_dir = "/y"\n'))


def test_nesting_without_end_is_no_crash(tmp_path: Path) -> None:
    assert "is not valid TOML" in refusal(written(tmp_path, "state_dir = " + "[" * 100_000))


def test_a_number_without_end_is_no_crash(tmp_path: Path) -> None:
    assert "is not valid TOML" in refusal(written(tmp_path, "state_dir = " + "9" * 5_000))


def test_not_utf8(tmp_path: Path) -> None:
    assert "is not UTF-8 at byte 13; save it as UTF-8" in refusal(written(tmp_path, b'state_dir = "\xff"'))


def test_no_such_file(tmp_path: Path) -> None:
    assert "does not exist; create it" in refusal(tmp_path / "none.toml")


def test_a_directory(tmp_path: Path) -> None:
    assert "is not a regular file" in refusal(tmp_path)


def test_a_path_through_a_file(tmp_path: Path) -> None:
    assert "cannot be read (Not a directory)" in refusal(written(tmp_path, "") / "deeper.toml")


def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_file, "MAX_CONFIG_BYTES", 3)
    assert "at most 3 are allowed" in refusal(written(tmp_path, "# comment"))
