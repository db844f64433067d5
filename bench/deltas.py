# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.deltas`: what a new release of a real package costs as a delta, and what making and using it takes.

Fetches pairs of successive wheels with pip, packs them as `p2pctl patch build` does, and compares the full transport,
our deltas (`seeds.adapters.delta_maker`, `p2pd.adapters.rebuilding`) and `zstd --patch-from` at the same work. Each
measurement runs in a process of its own; CPU seconds are user and system, memory is that process' peak. What only one
of them needs is imported there: libraries count as memory, too.
"""

import argparse
import hashlib
import json
import multiprocessing
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import zstandard

from p2pd.adapters.rebuilding import rebuild
from p2pd.ports_delta import Base, Rebuild
from signing.errors import BadInput
from signing.manifest import Content

RESULTS = Path(__file__).parent / "results" / "deltas.json"
PAIRS = ("numpy==2.2.3,2.2.4", "scipy==1.15.2,1.15.3")
ZSTD_LEVEL = 19
NO_BOUND = 2**40
WIDTH = 120  # of the table, where nobody has a terminal

Measured = dict[str, Any]


def measured(work: Callable[..., Any], *arguments: Any) -> tuple[Any, Measured]:
    """What `work` gave, and what it took, in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        answer: tuple[Any, Measured] = pool.apply(_weighed, (work, arguments))
        return answer


def _weighed(work: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, Measured]:
    result = work(*arguments)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return result, {"cpu_seconds": round(used.ru_utime + used.ru_stime, 2), "peak_rss_bytes": _peak_rss()}


def _peak_rss() -> int:
    """Not ru_maxrss, which a process inherits from the one that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def pack(wheel: Path, directory: Path) -> tuple[Content, Content, Path]:
    """Payload and transport of a wheel, and where the payload lies, uncompressed."""
    from seeds.adapters.delta_maker import unpack
    from seeds.adapters.payload_builder import build_payload

    built = build_payload(wheel, directory)
    payload = directory / f"{wheel.stem}.payload"
    unpack(built.transport_path, built.payload, payload)
    return built.payload, built.transport, payload


def zstd_make(base: Path, new: Path, delta: Path) -> int:
    """The size of what `zstd -19 --patch-from` makes."""
    data = new.read_bytes()
    known = zstandard.ZstdCompressionDict(base.read_bytes(), dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    window = max(len(data), base.stat().st_size).bit_length()
    parameters = zstandard.ZstdCompressionParameters.from_level(ZSTD_LEVEL, window_log=window, enable_ldm=True)
    return delta.write_bytes(zstandard.ZstdCompressor(dict_data=known, compression_params=parameters).compress(data))


def zstd_apply(base: Path, delta: Path, payload: Content) -> None:
    """Undo `zstd_make`, verified."""
    known = zstandard.ZstdCompressionDict(base.read_bytes(), dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    decompressor = zstandard.ZstdDecompressor(dict_data=known, max_window_size=2**31)
    made = decompressor.decompress(delta.read_bytes(), max_output_size=payload.size)
    assert hashlib.sha256(made).hexdigest() == payload.sha256


def our_make(base: Path, new: Path, into: Path) -> Content:
    """A delta as it is published."""
    from seeds.adapters.delta_maker import make_delta

    return make_delta(base, new, into, most_bytes=NO_BOUND)


def unpack_full(transport: Path, payload: Content, into: Path) -> None:
    """What applying is to the others."""
    from seeds.adapters.delta_maker import unpack

    unpack(transport, payload, into)


def compare(package: str, old: str, new: str, directory: Path) -> list[Measured]:
    """One object for each way to travel from `old` to `new`."""
    wheels = [fetch(package, version, directory) for version in (old, new)]
    base_content, _, base = pack(wheels[0], directory)
    (payload, transport, fresh), packing = measured(pack, wheels[1], directory / "new")
    about = {"package": package, "from": old, "to": new, "payload_bytes": payload.size}

    def row(way: str, size: int, make: Measured, apply: Measured) -> Measured:
        share = round(size / transport.size, 5)
        return {**about, "way": way, "bytes": size, "share_of_full": share, "make": make, "apply": apply}

    _, unpacking = measured(unpack_full, directory / "new" / transport.sha256, payload, directory / "unpacked")
    delta, making = measured(our_make, base, fresh, directory)
    work = Rebuild(
        base=Base(path=base, content=base_content, is_compressed=False),
        delta=directory / delta.sha256,
        delta_content=delta,
        result=directory / "rebuilt" / "payload",
        payload=payload,
    )
    _, applying = measured(rebuild, work)
    zstd_delta = directory / "zstd"
    zstd_size, zstd_making = measured(zstd_make, base, fresh, zstd_delta)
    _, zstd_applying = measured(zstd_apply, base, zstd_delta, payload)
    return [
        row("full", transport.size, packing, unpacking),
        row("hdiffpatch", delta.size, making, applying),
        row("zstd-patch-from", zstd_size, zstd_making, zstd_applying),
    ]


def fetch(package: str, version: str, directory: Path) -> Path:
    """The wheel of a release, for this machine. Raises BadInput when pip cannot bring it."""
    wheels = directory / f"{package}-{version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run(
        [*command, "--dest", str(wheels), f"{package}=={version}"], check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise BadInput(f"{package}=={version}", f"pip cannot fetch it: {done.stderr.strip()[-300:]}")
    (wheel,) = wheels.glob("*.whl")
    return wheel


def show(rows: Sequence[Measured]) -> None:
    """For people."""
    from rich.console import Console
    from rich.table import Table

    table = Table("package", "way", "bytes", "of the full", "making: CPU s", "MB", "applying: CPU s", "MB")
    for row in rows:
        spent = [str(row[step]["cpu_seconds"]) for step in ("make", "apply")]
        memory = [f"{row[step]['peak_rss_bytes'] / 1e6:.0f}" for step in ("make", "apply")]
        name = f"{row['package']} {row['from']} → {row['to']}"
        share = f"{row['share_of_full']:.2%}"
        table.add_row(name, row["way"], f"{row['bytes']:,}", share, spent[0], memory[0], spent[1], memory[1])
    console = Console()
    console.width = max(console.width, WIDTH)
    console.print(table)


def main() -> None:
    """Measure all pairs, print a table, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.deltas", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pairs", nargs="*", default=PAIRS, help="PACKAGE==OLD,NEW  [default: %(default)s]")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the figures go  [default: %(default)s]")
    chosen = parser.parse_args()
    rows: list[Measured] = []
    for pair in chosen.pairs:
        package, _, versions = pair.partition("==")
        old, _, new = versions.partition(",")
        if not (package and old and new):
            parser.error(f"{pair!r} is no pair: write PACKAGE==OLD,NEW")
        with tempfile.TemporaryDirectory(prefix="p2pd-deltas-") as directory:
            rows += compare(package, old, new, Path(directory))
    show(rows)
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
