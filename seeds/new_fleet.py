# SPDX-License-Identifier: Apache-2.0
"""A fleet from nothing: keys, segment authorities, server identity, first policy, signed repository, configuration."""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import Key, Signer

from p2pd.host.atomic_file import write_atomically
from seeds.adapters.store import Store
from seeds.config import Address, CoordinatorConfig, RoleKeys
from seeds.fleet import Fleet, FleetLayout, open_fleet
from signing.bounds import check_count, check_name, check_range, check_unique
from signing.codec import encode
from signing.devices import SegmentAuthority, create_server_identity
from signing.errors import BadInput
from signing.keys import create_key_file, open_signer
from signing.policy import POLICY_TARGET, Gate, Policy, Ring
from signing.recall import RECALL_TARGET, RecallList
from signing.repository import Repository
from signing.roles import ROLES

CANARY_SOAK_SECONDS = 300.0  # long enough to notice what a health check does not, short enough to watch


@dataclass(frozen=True, kw_only=True)
class FleetPlan:
    """What a new fleet shall be like. `names` are the DNS names and addresses at which the coordinator is reached."""

    names: tuple[str, ...]
    public: Address = field(default=Address(host="0.0.0.0", port=8443))  # noqa: S104 (an origin serves everyone)
    agent: Address = field(default=Address(host="0.0.0.0", port=8444))  # noqa: S104 (an origin serves everyone)
    metrics: Address = field(default=Address(host="127.0.0.1", port=9464))
    segments: tuple[str, ...] = ("default",)
    release_keys: int = 2
    release_threshold: int = 2
    canary_percent: float = 5.0
    canary_at_least: int = 1
    canary_soak_seconds: float = CANARY_SOAK_SECONDS

    def __post_init__(self) -> None:
        check_count("names", self.names, 64, least=1)
        check_count("segments", self.segments, 64, least=1)
        check_unique("segments", self.segments)
        for segment in self.segments:
            check_name("segment", segment)
        check_range("release_keys", self.release_keys, 1, 32)
        check_range("release_threshold", self.release_threshold, 1, self.release_keys)

    def first_policy(self) -> Policy:
        """A canary ring that must commit to the last member and soak, then everyone."""
        canary = Ring(
            name="canary",
            percent=self.canary_percent,
            at_least=self.canary_at_least,
            gate=Gate(success_percent=100, success_count=1, soak_seconds=self.canary_soak_seconds),
        )
        return Policy(version=1, segments=self.segments, rings=(canary, Ring(name="everyone")))


@dataclass(frozen=True, kw_only=True)
class NewKey:
    """For the account that is printed: a key, where it is, and what its holder may do."""

    role: str
    uri: str
    keyid: str
    is_online: bool
    power: str


@dataclass(frozen=True, kw_only=True)
class NewFleet:
    """The result of `create_fleet`."""

    fleet: Fleet
    keys: tuple[NewKey, ...]
    thresholds: Mapping[str, int]


def create_fleet(
    directory: Path, plan: FleetPlan, *, offline_passphrase: bytes, online_passphrase: bytes, now: datetime
) -> NewFleet:
    """Make a fleet in `directory`, which must be empty or missing; on failure nothing is left in it.

    Offline keys are encrypted with one passphrase; the online keys and the segment authorities, which the
    coordinator opens by itself, with the other. Raises BadInput.
    """
    layout = FleetLayout(directory.absolute())
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise BadInput(str(directory), "is not empty", "name a directory that does not exist yet")
        directory.chmod(0o700)
    except OSError as problem:
        raise BadInput(str(directory), f"cannot be made ({problem.strerror})", "name another directory") from None
    try:
        return _fill(layout, plan, offline_passphrase, online_passphrase, now)
    except BaseException:
        for entry in directory.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        raise


def _fill(layout: FleetLayout, plan: FleetPlan, offline: bytes, online: bytes, now: datetime) -> NewFleet:
    for folder in ("keys", "keys/offline", "keys/online", "segments", "server", "state", "run"):
        (layout.directory / folder).mkdir(mode=0o700)
    (layout.directory / "payloads").mkdir()
    keys = _make_keys(layout, plan, offline, online)
    passphrases = {name: online if role.is_online else offline for name, role in ROLES.items()}
    certificates = {segment: _make_authority(layout, segment, online, now) for segment in plan.segments}
    _make_server(layout, plan, now)
    config = _config(plan, keys)
    thresholds = {name: role.threshold for name, role in ROLES.items()} | {"patches": plan.release_threshold}
    Repository.create(
        layout.directory / config.repository,
        keys={role: [key for _, key in pairs] for role, pairs in keys.items()},
        thresholds=thresholds,
        signers={role: _open_all(layout, pairs, passphrases[role]) for role, pairs in keys.items()},
        targets={
            "targets": {f"trust/{segment}.pem": certificate for segment, certificate in certificates.items()},
            "policies": {POLICY_TARGET: encode(plan.first_policy())},
            "recalls": {RECALL_TARGET: encode(RecallList(version=1))},
        },
        now=now,
    )
    Store(layout.directory / config.database).close()
    # Last, since it is what makes the directory a fleet.
    write_atomically(layout.config, _toml(config).encode(), mode=0o600)
    account = tuple(
        NewKey(role=role, uri=uri, keyid=key.keyid, is_online=ROLES[role].is_online, power=ROLES[role].power)
        for role, pairs in keys.items()
        for uri, key in pairs
    )
    return NewFleet(fleet=open_fleet(layout.directory), keys=account, thresholds=thresholds)


def _make_keys(layout: FleetLayout, plan: FleetPlan, offline: bytes, online: bytes) -> dict[str, list[tuple[str, Key]]]:
    made: dict[str, list[tuple[str, Key]]] = {}
    for name, role in ROLES.items():
        count = plan.release_keys if name == "patches" else 1
        folder, passphrase = (layout.online_keys, online) if role.is_online else (layout.offline_keys, offline)
        for number in range(1, count + 1):
            path = folder / (f"{name}-{number}.pem" if count > 1 else f"{name}.pem")
            key = create_key_file(path, passphrase)
            made.setdefault(name, []).append((f"encrypted-file:{path.relative_to(layout.directory)}", key))
    return made


def _open_all(layout: FleetLayout, pairs: Iterable[tuple[str, Key]], passphrase: bytes) -> list[Signer]:
    return [open_signer(uri, key, lambda _: passphrase, base=layout.directory) for uri, key in pairs]


def _make_authority(layout: FleetLayout, segment: str, passphrase: bytes, now: datetime) -> bytes:
    authority = SegmentAuthority.create(segment, now=now)
    write_atomically(layout.segment_certificate(segment), authority.certificate_pem, mode=0o644)
    write_atomically(layout.segment_key(segment), authority.key_pem(passphrase))
    return authority.certificate_pem


def _make_server(layout: FleetLayout, plan: FleetPlan, now: datetime) -> None:
    try:
        identity = create_server_identity(plan.names, now=now)
    except ValueError as problem:
        raise BadInput("server name", str(problem), "name DNS names or IP addresses") from None
    write_atomically(layout.server_ca, identity.ca_pem, mode=0o644)
    write_atomically(layout.server_certificate, identity.certificate_pem, mode=0o644)
    write_atomically(layout.server_key, identity.key_pem)


def _config(plan: FleetPlan, keys: Mapping[str, Sequence[tuple[str, Key]]]) -> CoordinatorConfig:
    host = plan.names[0]
    host = f"[{host}]" if ":" in host else host
    return CoordinatorConfig(
        public=(plan.public,),
        agent=(plan.agent,),
        metrics=(plan.metrics,),
        public_url=f"https://{host}:{plan.public.port}",
        agent_url=f"https://{host}:{plan.agent.port}",
        segments=plan.segments,
        keys=tuple(RoleKeys(role=role, uris=tuple(uri for uri, _ in pairs)) for role, pairs in keys.items()),
    )


def _toml(config: CoordinatorConfig) -> str:
    """What `load_fleet_config` reads back as `config`, defaults left out."""
    lines = [
        "# The coordinator of this fleet. Relative paths start at this file's directory.",
        "",
        f"public_url = {_text(config.public_url)}  # how devices reach the public listener; it goes into tokens",
        f"agent_url = {_text(config.agent_url)}  # how they reach the listener that asks for their certificate",
        f"segments = [{', '.join(map(_text, config.segments))}]",
    ]
    for name in ("public", "agent", "metrics"):
        for address in getattr(config, name):
            lines += ["", f"[[{name}]]", f"host = {_text(address.host)}", f"port = {address.port}"]
    for keys in config.keys:
        lines += ["", "[[keys]]", f"role = {_text(keys.role)}", f"uris = [{', '.join(map(_text, keys.uris))}]"]
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    # What JSON escapes, TOML's basic strings escape the same way.
    return json.dumps(value, ensure_ascii=False)
