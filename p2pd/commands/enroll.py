# SPDX-License-Identifier: Apache-2.0
"""`p2pd enroll`: make this machine an endpoint of a fleet."""

import os
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
import httpx
import trio

from p2pd.adapters.coordinator_https import ANSWER_SECONDS, post_json
from p2pd.adapters.http_chunks import raw_chunks, words_of
from p2pd.adapters.identity_files import Enrolment, IdentityFiles
from p2pd.config import AgentConfig
from p2pd.host.atomic_file import write_atomically
from p2pd.host.tls import client_context
from p2pd.ports_control import CoordinatorUnavailable, Refused
from p2pd.services.enrolling import NewIdentity, check_authority, enrol
from signing.devices import MAX_PEM_BYTES
from signing.errors import BadInput
from signing.token import EnrolmentToken
from signing.trust import TrustClient

_PUBLIC = 0o644


def run_enroll(config: AgentConfig, token_text: str, device: str | None, *, again: bool) -> NewIdentity:
    """Enrol and write everything. Raises SigningError, and click's exceptions for what stops it."""
    files = IdentityFiles(Path(config.state_dir))
    if files.is_enrolled() and not again:
        raise BadInput(config.state_dir, "is enrolled already", "add --again to give it a new identity")
    token = EnrolmentToken.decode(token_text)
    try:
        identity, ca_pem = trio.run(partial(_enrol, token, device or default_device_name()))
    except Refused as refusal:
        raise BadInput("enrolment", f"refused ({refusal.reason or 'no reason code'}): {refusal}") from None
    except CoordinatorUnavailable as problem:
        raise click.ClickException(f"the coordinator does not answer: {problem}") from None
    _save(config, files, token, identity, ca_pem)
    return identity


def default_device_name() -> str:
    """The host's name in the alphabet of device names."""
    name = re.sub(r"[^a-z0-9.-]+", "-", socket.gethostname().lower()).strip("-.")
    return name[:63] or "device"


async def _enrol(token: EnrolmentToken, device: str) -> tuple[NewIdentity, bytes]:
    ca_pem = check_authority(token, await _fetch_authority(token))
    async with httpx.AsyncClient(verify=client_context(ca_pem=ca_pem), trust_env=False) as client:
        return await enrol(token, device, partial(post_json, client)), ca_pem


async def _fetch_authority(token: EnrolmentToken) -> bytes:
    """The one request that believes anybody: its answer counts only if it has the digest that the token names."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    url, data = f"{token.url.rstrip('/')}/ca.pem", bytearray()
    try:
        async with (
            httpx.AsyncClient(verify=context, trust_env=False) as client,
            client.stream("GET", url, timeout=ANSWER_SECONDS) as answer,
            raw_chunks(answer) as chunks,
        ):
            async for chunk in chunks:
                data += chunk
                if len(data) > MAX_PEM_BYTES:
                    raise BadInput(url, f"is longer than {MAX_PEM_BYTES} bytes")
    except httpx.HTTPError as problem:
        raise CoordinatorUnavailable(f"{url}: {words_of(problem)}") from problem
    return bytes(data)


def _save(
    config: AgentConfig, files: IdentityFiles, token: EnrolmentToken, identity: NewIdentity, ca_pem: bytes
) -> None:
    """Write trust first and the enrolment last: a crash in between means not enrolled."""
    state_dir, initial_root = Path(config.state_dir), Path(config.initial_root)
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    initial_root.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(initial_root, identity.root, mode=_PUBLIC)
    with _as_owner_of(state_dir):
        TrustClient.bootstrap(state_dir / "trust" / "metadata", identity.root)
        files.save(
            Enrolment(
                device=identity.device,
                segment=identity.segment,
                site=identity.site,
                url=token.url,
                agent_url=identity.agent_url,
            ),
            key=identity.key,
            certificate=identity.certificate,
            segment_ca=identity.segment_ca,
            coordinator_ca=ca_pem,
        )


@contextmanager
def _as_owner_of(state_dir: Path) -> Iterator[None]:
    """Write as the user whose daemon reads it: the directory's owner.

    Root, following links that this user may have planted, would write wherever they lead.
    """
    owner = state_dir.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
