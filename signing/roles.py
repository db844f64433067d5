# SPDX-License-Identifier: Apache-2.0
"""The TUF roles of a fleet: who signs which targets, for how long, and what a thief of each key would gain.

Everything that differs between roles stands in this table and nowhere else. Paths are TUF patterns, matched one path
segment at a time, so `patches/*/*/*` covers exactly four segments.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from types import MappingProxyType

from signing.errors import BadInput

MAX_TARGET_PART_CHARS = 180  # a file's name is 65 characters longer, for the hash, and file systems allow 255
MAX_TARGET_CHARS = 500

# Upper and lower case letters, digits and `. _ + ~ : -`: what names and versions of documents may contain, and what
# stands in a URL and in a file's name without any quoting, so that all clients derive the same URL.
_TARGET_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+~:-]*")


@dataclass(frozen=True, kw_only=True)
class FleetRole:
    """One role. `power` tells a person, in one sentence, what a holder of enough of its keys may and may not do."""

    name: str
    delegated_by: str | None  # the role whose metadata names this role's keys; None: it names its own
    paths: tuple[str, ...]  # of the targets that it may sign
    threshold: int  # signatures asked for in production
    lifetime: timedelta
    is_online: bool  # its key lives at the coordinator, which signs without asking a person
    power: str

    @property
    def signs_targets(self) -> bool:
        """It signs target files, rather than other roles' keys or versions."""
        return bool(self.paths)

    def may_sign(self, target: str) -> bool:
        """Whether one of the role's path patterns covers `target`, by TUF's rule of one segment at a time."""
        parts = target.split("/")
        return any(
            len(parts) == len(pattern) and all(map(fnmatchcase, parts, pattern))
            for pattern in (path.split("/") for path in self.paths)
        )


_TABLE = (
    FleetRole(
        name="root",
        delegated_by=None,
        paths=(),
        threshold=1,
        lifetime=timedelta(days=365),
        is_online=False,
        power="may replace the keys of every role, and so take over the fleet: keep it offline, in several hands.",
    ),
    FleetRole(
        name="targets",
        delegated_by="root",
        paths=("trust/*",),
        threshold=1,
        lifetime=timedelta(days=365),
        is_online=False,
        power="may say who signs patches, policies, recalls and schedules and which segment authorities exist, and so "
        "in two steps sign anything; may not replace root, snapshot or timestamp keys.",
    ),
    FleetRole(
        name="patches",
        delegated_by="targets",
        paths=("patches/*/*/*",),
        threshold=2,
        lifetime=timedelta(days=180),
        is_online=False,
        power="may release a patch (with as many keys as the threshold asks for); may not say when or where it is "
        "installed, nor lift a recall.",
    ),
    FleetRole(
        name="policies",
        delegated_by="targets",
        paths=("policies/*",),
        threshold=1,
        lifetime=timedelta(days=365),
        is_online=False,
        power="may change rings, gates and limits; may not release or alter a patch.",
    ),
    FleetRole(
        name="recalls",
        delegated_by="targets",
        paths=("recalls/*",),
        threshold=1,
        lifetime=timedelta(days=365),
        is_online=False,
        power="may withdraw released patches, which stops their installation; may not release or alter one.",
    ),
    FleetRole(
        name="schedules",
        delegated_by="targets",
        paths=("schedules/*",),
        threshold=1,
        lifetime=timedelta(days=1),
        is_online=True,
        power="may delay, reorder, halt and open rollouts within the signed policy; may not release, alter or "
        "downgrade a patch, nor cross a segment.",
    ),
    FleetRole(
        name="snapshot",
        delegated_by="root",
        paths=(),
        threshold=1,
        # Longer than the timestamp's: a schedule changes the snapshot far more often than this anyway.
        lifetime=timedelta(days=7),
        is_online=True,
        power="may say which versions of signed metadata belong together; may not sign any, nor bring back a version "
        "older than an endpoint has seen.",
    ),
    FleetRole(
        name="timestamp",
        delegated_by="root",
        paths=(),
        threshold=1,
        lifetime=timedelta(days=1),
        is_online=True,
        power="may say which snapshot is the newest, and so hold news back for at most the snapshot's life; may not "
        "sign any content.",
    ),
)

ROLES: Mapping[str, FleetRole] = MappingProxyType({role.name: role for role in _TABLE})
DELEGATED = tuple(role.name for role in _TABLE if role.delegated_by == "targets")
ONLINE = tuple(role.name for role in _TABLE if role.is_online)
OFFLINE = tuple(role.name for role in _TABLE if not role.is_online)


def role_named(name: str) -> FleetRole:
    """The role of that name. Raises BadInput that names the nearest one."""
    if name in ROLES:
        return ROLES[name]
    close = difflib.get_close_matches(name, ROLES, n=1, cutoff=0.5)
    remedy = f"did you mean {close[0]!r}?" if close else f"roles are: {', '.join(ROLES)}"
    raise BadInput("role", f"there is no role {name!r}", remedy)


def check_target(role: FleetRole, target: str) -> None:
    """Refuse a target path that is not canonical, or that clients would not accept from `role`. Raises BadInput."""
    where = f"target {target!r}"
    if len(target) > MAX_TARGET_CHARS:
        raise BadInput(f"target {target[:40]!r}…", f"is longer than {MAX_TARGET_CHARS} characters")
    for part in target.split("/"):
        if not _TARGET_PART.fullmatch(part) or len(part) > MAX_TARGET_PART_CHARS:
            raise BadInput(
                where,
                f"has the part {part!r}",
                f"parts are 1-{MAX_TARGET_PART_CHARS} of A-Z a-z 0-9 . _ + ~ : -, starting with a letter, digit or _",
            )
    if not role.may_sign(target):
        remedy = f"that role signs {' '.join(role.paths)}" if role.paths else "that role signs no targets"
        raise BadInput(where, f"is not the {role.name} role's to sign", remedy)
