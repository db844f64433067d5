# SPDX-License-Identifier: Apache-2.0
"""The software of the demo: two successive public releases of a Python package, and a broken build of the second."""

import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import trio

from signing.errors import BadInput

DOWNLOAD_SECONDS = 90.0
_CHECK = (
    "import importlib, sys; sys.path.insert(0, sys.argv[1]); module = importlib.import_module(sys.argv[2]); "
    "sys.exit(not str(module.__file__).startswith(sys.argv[1]))"
)


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A downloaded release."""

    path: Path
    version: str


@dataclass(frozen=True, kw_only=True)
class Software:
    """What the three acts install. `module` is what the health check imports."""

    package: str
    module: str
    first: Wheel
    second: Wheel
    broken: Path  # a directory
    broken_version: str

    def check_argv(self) -> tuple[str, ...]:
        """Healthy when an isolated Python can import the module out of the active slot."""
        return (sys.executable, "-I", "-c", _CHECK, "{slot}", self.module)


async def fetch_software(package: str, into: Path) -> Software:
    """Download the two newest releases with pip and break a copy of the newer. Raises BadInput."""
    second = await _download(package, package, into / "second")
    first = await _download(package, f"{package}<{second.version}", into / "first")
    module = _module_of(second.path)
    broken = into / "broken"
    await trio.to_thread.run_sync(_break, second.path, module, broken)
    return Software(
        package=package.lower().replace("_", "-"),
        module=module,
        first=first,
        second=second,
        broken=broken,
        broken_version=f"{second.version}+broken",
    )


async def _download(package: str, requirement: str, into: Path) -> Wheel:
    await trio.Path(into).mkdir(parents=True)
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    argv += ["--only-binary", ":all:", "--dest", str(into), requirement]
    with trio.move_on_after(DOWNLOAD_SECONDS) as limit:
        done = await trio.run_process(argv, capture_stdout=True, stderr=subprocess.STDOUT, check=False)
    if limit.cancelled_caught:
        raise BadInput(package, f"pip has not downloaded it within {DOWNLOAD_SECONDS:g} s", "look at the network")
    wheels = [Path(path) for path in await trio.Path(into).glob("*.whl")]
    if done.returncode != 0 or len(wheels) != 1:
        told = done.stdout.decode(errors="replace").strip().splitlines()
        why = told[-1] if told else f"exit code {done.returncode}"
        raise BadInput(package, f"pip cannot download {requirement!r}: {why}", "name a package with two wheels")
    return Wheel(path=wheels[0], version=wheels[0].name.split("-")[1])


def _module_of(wheel: Path) -> str:
    """The package directory in the wheel that a health check can import."""
    with zipfile.ZipFile(wheel) as archive:
        tops = sorted({name.split("/")[0] for name in archive.namelist() if name.endswith("/__init__.py")})
    if not tops:
        raise BadInput(wheel.name, "has no importable package", "name another package")
    return tops[0]


def _break(wheel: Path, module: str, into: Path) -> None:
    """A build that went wrong half-way: the package's first file ends in the middle of a statement."""
    shutil.rmtree(into, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(into)
    with (into / module / "__init__.py").open("a") as file:
        file.write("\n\ndef build_went_wrong(\n")
