# SPDX-License-Identifier: Apache-2.0
"""What a person types to a lab that stands: one line, one change of a link, or what went over the links."""

from collections.abc import Sequence
from typing import Any

from bench.lab.commands import LabError
from bench.lab.links import Link
from bench.lab.network import Network
from bench.lab.topology import read_milliseconds, read_rate

USAGE = (
    "cut LINK | restore LINK | change LINK [up=RATE] [down=RATE] [delay=TIME] [loss=FRACTION] | bytes [LINK ...];"
    " Ctrl-C takes it down"
)


def obey(line: str, network: Network) -> str:
    """Do what `line` says; returns what there is to tell, or what was wrong with it."""
    try:
        return _obey(line.split(), network)
    except (ValueError, LabError) as error:
        return str(error)


def _obey(words: Sequence[str], network: Network) -> str:
    match words:
        case []:
            return ""
        case ["cut", name]:
            _link(network, name).cut()
            return f"{name} is cut"
        case ["restore", name]:
            _link(network, name).restore()
            return f"{name} is restored"
        case ["change", name, _, *_]:
            link = _link(network, name)
            link.change(**dict(_setting(word) for word in words[2:]))
            return f"{name} is {link.spec}"
        case ["bytes", *names]:
            links = [_link(network, name) for name in names or network.links]
            counted = network.link_bytes([link.name for link in links])
            return "\n".join(f"{name} up {sent.up} down {sent.down}" for name, sent in counted.items())
        case _:
            return USAGE


def _link(network: Network, name: str) -> Link:
    try:
        return network.links[name]
    except KeyError:
        raise ValueError(f"there is no link {name!r}; there are {', '.join(network.links)}") from None


def _setting(word: str) -> tuple[str, Any]:
    key, _, value = word.partition("=")
    match key:
        case "up" | "down":
            return key, read_rate(key, value)
        case "delay":
            return "delay_ms", read_milliseconds(key, value)
        case "loss":
            return key, float(value)
        case _:
            raise ValueError(f"{word!r} is no setting; {USAGE}")
