# SPDX-License-Identifier: Apache-2.0
"""Turns an enrolment token into an identity: the device key is made here and never leaves."""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from signing.devices import DeviceKey, read_device_certificate
from signing.errors import BadInput, ContentMismatch
from signing.token import EnrolmentToken

PostJson = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class NewIdentity:
    """Everything that enrolling brings, checked against the token."""

    device: str
    segment: str
    site: str
    agent_url: str
    key: DeviceKey
    certificate: bytes
    segment_ca: bytes
    root: bytes


def check_authority(token: EnrolmentToken, ca_pem: bytes) -> bytes:
    """The coordinator's authority as anybody may have sent it, if it is the one that the token names."""
    return _check_digest("the coordinator's authority", ca_pem, token.ca_sha256)


async def enrol(token: EnrolmentToken, device: str, post: PostJson) -> NewIdentity:
    """Spend the token. `post` must already believe only the authority that `check_authority` passed.

    Raises ContentMismatch when the coordinator sends another root than the token names, BadInput when its answer
    cannot be used, and what `post` raises.
    """
    key = DeviceKey.generate()
    answer = await post(
        f"{token.url.rstrip('/')}/enroll", {"secret": token.secret, "device": device, "csr": key.csr(device).decode()}
    )
    where = "the coordinator's answer"
    texts = {}
    for field in ("device", "segment", "site", "certificate", "segment_ca", "root", "agent_url"):
        value = answer.get(field)
        if not isinstance(value, str):
            raise BadInput(where, f"has no {field!r}")
        texts[field] = value
    certificate = read_device_certificate(texts["certificate"].encode(), where=where)
    if certificate.public_pem != key.public_pem or certificate.device != texts["device"]:
        raise BadInput(where, "carries a certificate for another key or device")
    if texts["segment"] not in certificate.segments:
        raise BadInput(where, f"carries a certificate of another segment than {texts['segment']!r}")
    return NewIdentity(
        device=texts["device"],
        segment=texts["segment"],
        site=texts["site"],
        agent_url=texts["agent_url"],
        key=key,
        certificate=texts["certificate"].encode(),
        segment_ca=texts["segment_ca"].encode(),
        root=_check_digest("the TUF root", texts["root"].encode(), token.root_sha256),
    )


def _check_digest(what: str, data: bytes, expected: str) -> bytes:
    actual = hashlib.sha256(data).hexdigest()
    if actual != expected:
        raise ContentMismatch(f"{what} is not the one that the token names", expected=expected, actual=actual)
    return data
