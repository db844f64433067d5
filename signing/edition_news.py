# SPDX-License-Identifier: Apache-2.0
"""What an edition changed, in one file: whoever had the edition before asks one question instead of a dozen.

    metadata/41.news.json       41 is the version of the timestamp
    {"root": 2,
     "metadata": {"timestamp.json": "…", "23.snapshot.json": "…", "12.schedules.json": "…"},
     "targets": {"schedules/<sha256>.main": "<base64>"}}

Nobody signs it and nobody trusts it: a client takes each file out of it as if it had asked for that one, and verifies
it all the same. Of the rest it asks by name: an origin may lack the file, or anything in it. `root` is the newest root,
so that whoever has it need not ask for the next one; an origin that keeps a root back could as well deny that file.
"""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from signing.errors import BadInput

MAX_NEWS_BYTES = 2**20
_ROOT = re.compile(r"([1-9][0-9]{0,15})\.root\.json")


@dataclass(frozen=True, kw_only=True)
class News:
    """`metadata` and `targets` are by the names that the files are served under."""

    root: int = 0
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    targets: Mapping[str, bytes] = field(default_factory=dict)

    def denies(self, name: str) -> bool:
        """Whether there is no such metadata: a root after the newest."""
        matched = _ROOT.fullmatch(name)
        return matched is not None and self.root > 0 and int(matched[1]) > self.root


def news_name(timestamp_version: int) -> str:
    """Of the file about the edition with that timestamp."""
    return f"{timestamp_version}.news.json"


def encode_news(news: News) -> bytes:
    """The file."""
    raw = {
        "root": news.root,
        "metadata": {name: data.decode() for name, data in news.metadata.items()},
        "targets": {name: base64.b64encode(data).decode() for name, data in news.targets.items()},
    }
    return json.dumps(raw).encode()


def decode_news(data: bytes) -> News:
    """What somebody's file says. Raises BadInput."""
    try:
        raw = json.loads(data)
        return News(
            root=int(raw["root"]),
            metadata={name: text.encode() for name, text in raw["metadata"].items()},
            targets={name: base64.b64decode(text, validate=True) for name, text in raw["targets"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as problem:
        raise BadInput("news", f"cannot be read: {problem!r}") from None
