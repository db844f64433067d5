# SPDX-License-Identifier: Apache-2.0
"""Errors of the trust layer, by whose fault it is.

SigningError
  BadInput             what we were given cannot be read: wrong shape, out of bounds, truncated
  Untrusted            it can be read, and must not be believed
    Expired            its signed life is over
    NotSigned          too few signatures of known keys
    RolledBack         older than what was accepted before
    ContentMismatch    the bytes are not the bytes that were signed
    NotListed          no trusted role signs a target of that name
    Recalled           withdrawn by a signed recall
  SourceUnavailable    nobody to fetch the metadata or target from: the world's fault, worth another try
  KeyUnavailable       a signing key cannot be read, decrypted or reached
"""

from signing.reasons import Reason


class SigningError(Exception):
    """Base of all errors that this package raises on purpose."""

    reason: Reason = Reason.METADATA_UNTRUSTED


class BadInput(SigningError):
    """The input cannot be read. `where` names the file or field, `remedy` what to do about it."""

    reason = Reason.DOCUMENT_MALFORMED

    def __init__(self, where: str, problem: str, remedy: str = "") -> None:
        super().__init__(f"{where}: {problem}" + (f"; {remedy}" if remedy else ""))
        self.where = where
        self.problem = problem
        self.remedy = remedy


class Untrusted(SigningError):
    """Well-formed, but not to be believed."""


class Expired(Untrusted):
    """Signed metadata is past its life: nothing new may be installed on its word."""

    reason = Reason.METADATA_EXPIRED


class NotSigned(Untrusted):
    """Fewer valid signatures of known keys than the threshold asks for."""


class RolledBack(Untrusted):
    """A version older than one that was accepted before."""


class ContentMismatch(Untrusted):
    """The bytes at `where` are not the bytes that were signed."""

    reason = Reason.PAYLOAD_MISMATCH

    def __init__(self, where: str, *, expected: str, actual: str) -> None:
        super().__init__(f"{where}: expected {expected}, found {actual}")
        self.where = where
        self.expected = expected
        self.actual = actual


class NotListed(Untrusted):
    """No trusted role signs a target of that name: nobody vouches for it, or it was withdrawn."""


class Recalled(Untrusted):
    """A signed recall withdraws this release."""

    reason = Reason.RECALLED


class SourceUnavailable(SigningError):
    """The metadata or target could not be fetched; trying again, or elsewhere, may help."""

    reason = Reason.METADATA_UNREACHABLE


class KeyUnavailable(SigningError):
    """A signing key cannot be read, decrypted or reached; nothing was signed."""
