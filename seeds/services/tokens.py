# SPDX-License-Identifier: Apache-2.0
"""Enrolment tokens: the secret goes to whoever asked, its digest into the store."""

import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seeds.records import AuditEvent, Token
from signing.bounds import check_name, check_range
from signing.errors import BadInput
from signing.token import EnrolmentToken

if TYPE_CHECKING:  # loads SQLAlchemy, which is half of the time that most commands of `p2pctl` would take to start
    from seeds.adapters.store import Store

SECRET_BYTES = 32
MAX_USES = 100_000
MAX_TOKEN_SECONDS = 366 * 86_400


@dataclass(frozen=True, kw_only=True)
class TokenWish:
    """What a token is to be good for. `device` set: for that name only, whose key it may also replace."""

    segment: str
    site: str
    uses: int = 1
    seconds: int = 86_400
    device: str | None = None

    def __post_init__(self) -> None:
        check_name("segment", self.segment)
        check_name("site", self.site)
        check_range("uses", self.uses, 1, MAX_USES)
        check_range("seconds", self.seconds, 1, MAX_TOKEN_SECONDS)
        if self.device is not None:
            check_name("device", self.device)
            if self.uses != 1:
                raise ValueError("a token for one device is good for one use")


@dataclass(frozen=True, kw_only=True)
class Pins:
    """What tokens pin: where the coordinator is, and whom a new device shall believe."""

    url: str
    ca_sha256: str
    root_sha256: str
    root_version: int
    segments: tuple[str, ...]


def issue_token(store: "Store", pins: Pins, wish: TokenWish, *, who: str, now: int) -> EnrolmentToken:
    """Make a token and keep its digest. Raises BadInput for a segment that the fleet does not have."""
    if wish.segment not in pins.segments:
        raise BadInput("segment", f"there is no segment {wish.segment!r}", f"segments are: {', '.join(pins.segments)}")
    secret = secrets.token_urlsafe(SECRET_BYTES)
    token = Token(
        secret_sha256=digest_of(secret),
        segment=wish.segment,
        site=wish.site,
        root_version=pins.root_version,
        expires_at=now + wish.seconds,
        uses_left=wish.uses,
        device=wish.device,
    )
    detail = f"segment {wish.segment}, {wish.uses} uses, {wish.seconds} s"
    with store.writing() as transaction:
        transaction.drop_tokens_expired_before(now - MAX_TOKEN_SECONDS)
        transaction.put_token(token)
        transaction.add_audit(
            AuditEvent(time=now, who=who, what="token issued", subject=f"site {wish.site}", detail=detail)
        )
    return EnrolmentToken(url=pins.url, ca_sha256=pins.ca_sha256, root_sha256=pins.root_sha256, secret=secret)


def digest_of(secret: str) -> str:
    """What the store keeps of a secret. It has 256 bits of chance, so that no slow hash is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()
