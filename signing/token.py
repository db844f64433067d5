# SPDX-License-Identifier: Apache-2.0
"""The enrolment token: all that a new device needs to find its coordinator and to trust nobody else."""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgpack

from signing.bounds import check_count, check_sha256
from signing.errors import BadInput
from signing.structure import build, flatten

_PREFIX = "p2pd1."
MAX_TOKEN_CHARS = 2_048


@dataclass(frozen=True, kw_only=True)
class EnrolmentToken:
    """Address, fingerprints and a secret that is spent by enrolling.

    `ca_sha256` is the digest of the coordinator's authority certificate (PEM bytes as served), `root_sha256` that of
    the TUF root to start from: whoever answers at `url` can thus replace neither.
    """

    url: str
    ca_sha256: str
    root_sha256: str
    secret: str

    def __post_init__(self) -> None:
        address = urlsplit(self.url)
        if address.scheme != "https" or not address.hostname:
            raise ValueError(f"url {self.url!r} must be an https:// address")
        check_sha256("ca_sha256", self.ca_sha256)
        check_sha256("root_sha256", self.root_sha256)
        check_count("secret", self.secret, 128, least=20)

    def encode(self) -> str:
        """One word that survives copy and paste."""
        packed: bytes = msgpack.packb(flatten(self))
        checksum = hashlib.sha256(packed).digest()[:4]
        return _PREFIX + base64.urlsafe_b64encode(packed + checksum).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> "EnrolmentToken":
        """Read a token. Raises BadInput, which never repeats the token's text: it holds a secret."""
        where, text = "enrolment token", text.strip()
        if not text.startswith(_PREFIX) or len(text) > MAX_TOKEN_CHARS:
            raise BadInput(where, f"does not start with {_PREFIX!r}", "copy it whole from `p2pctl enroll-token`")
        body = text.removeprefix(_PREFIX)
        try:
            raw = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
            packed, checksum = raw[:-4], raw[-4:]
            if hashlib.sha256(packed).digest()[:4] != checksum:
                raise BadInput(where, "is damaged or incomplete", "copy it whole from `p2pctl enroll-token`")
            mapping: Any = msgpack.unpackb(packed)
        except (binascii.Error, ValueError, msgpack.exceptions.UnpackException):
            raise BadInput(where, "is damaged or incomplete", "copy it whole from `p2pctl enroll-token`") from None
        return build(cls, mapping, where=where)
