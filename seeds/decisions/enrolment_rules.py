# SPDX-License-Identifier: Apache-2.0
"""Who may enrol, and whose certificate may be renewed. Pure: a reason code is a refusal, None is a yes."""

from seeds.records import Device, Token
from signing.reasons import Reason
from signing.schedule import MAX_MEMBERS

RENEWAL_SLACK_SECONDS = 86_400  # an endpoint's clock may be wrong by a time zone or a daylight-saving hour, not by more


def judge_enrolment(
    token: Token | None, known: Device | None, *, device: str, public_pem: bytes, site_members: int, now: int
) -> Reason | None:
    """May the holder of the key `public_pem` enrol as `device` with this token?

    `known` is the device that has the name now, `site_members` how many devices the token's site has. A key that
    comes back with the same token is answered again: the first answer may have been lost on its way.
    """
    if token is None:
        return Reason.TOKEN_UNKNOWN
    if now >= token.expires_at:
        return Reason.TOKEN_EXPIRED
    if token.device is not None and token.device != device:
        return Reason.TOKEN_OTHER_DEVICE
    if is_repeat(token, known, public_pem):
        return None
    if token.uses_left < 1:
        return Reason.TOKEN_USED
    has_same_key = known is not None and known.public_pem == public_pem
    if known is not None and not has_same_key and token.device is None:
        return Reason.DEVICE_NAME_TAKEN
    if site_members >= MAX_MEMBERS and (known is None or known.site != token.site):
        return Reason.SITE_FULL
    return None


def is_repeat(token: Token, known: Device | None, public_pem: bytes) -> bool:
    """The same request as before: it spends no use of the token."""
    return known is not None and known.public_pem == public_pem and known.token_sha256 == token.secret_sha256


def judge_renewal(known: Device, *, asked_at: int, grace_seconds: float, now: int) -> Reason | None:
    """May the device have a new certificate? Its signature was checked before."""
    if abs(now - asked_at) > RENEWAL_SLACK_SECONDS:
        return Reason.CLOCK_SKEWED
    if now > known.certificate_expires + grace_seconds:
        return Reason.CERTIFICATE_EXPIRED
    return None
