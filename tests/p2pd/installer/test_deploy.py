# SPDX-License-Identifier: Apache-2.0
"""The files that administrators copy say what the code understands."""

from pathlib import Path

from p2pd.host.config_file import load_config
from p2pd.installer.config import InstallerConfig

DEPLOY = Path(__file__).parents[3] / "deploy"


def test_the_example_configuration_is_valid_and_fits_the_unit() -> None:
    config = load_config(InstallerConfig, DEPLOY / "p2pd-install.toml")
    unit = (DEPLOY / "p2pd-install.service").read_text()
    assert f"ReadWritePaths={config.install_root}\n" in unit
    assert config.state_dir == "/var/lib/p2pd-install"
    assert "StateDirectory=p2pd-install\n" in unit
    assert config.socket == "/run/p2pd-install/p2pd-install.sock"
    assert "RuntimeDirectory=p2pd-install\n" in unit
