# SPDX-License-Identifier: Apache-2.0
"""The contenders by name, and which of their programs are not here."""

from collections.abc import Iterable, Mapping

from bench.contenders.aria2 import Aria2
from bench.contenders.contender import Contender
from bench.contenders.http import Http
from bench.contenders.libtorrent import Libtorrent
from bench.contenders.p2pd import P2pd
from bench.contenders.transmission import Transmission
from bench.contenders.uftp import Uftp
from bench.lab.programs import find
from signing.errors import BadInput

_ALL: tuple[Contender, ...] = (P2pd(), Aria2(), Libtorrent(), Transmission(), Uftp(), Http())
CONTENDERS: Mapping[str, Contender] = {contender.name: contender for contender in _ALL}


def contender_named(name: str) -> Contender:
    """The contender of that name. Raises BadInput that lists the others."""
    if name not in CONTENDERS:
        raise BadInput("contender", f"there is none named {name!r}", f"there are: {', '.join(CONTENDERS)}")
    return CONTENDERS[name]


def missing_packages(contenders: Iterable[Contender]) -> list[str]:
    """Debian packages of programs that the contenders need and that are not here, sorted."""
    needed = {program: package for contender in contenders for program, package in contender.packages.items()}
    return sorted({package for program, package in needed.items() if find(program) is None})
