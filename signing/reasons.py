# SPDX-License-Identifier: Apache-2.0
"""The one enum of reason codes: why something was not done, or was undone.

Every refusal, wait, halt and rollback of either daemon carries one of these, in the CLI, the API, the metrics, the
reports and the logs alike. A code is a wire value: it may be added, never renamed or given another meaning.
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why an action was not taken. `explain` gives the sentence for people."""

    # Eligibility: why this endpoint does not install that patch now.
    ALREADY_INSTALLED = "already_installed"
    OLDER_THAN_INSTALLED = "older_than_installed"
    SUPERSEDED = "superseded"
    RING_NOT_OPEN = "ring_not_open"
    ROLLOUT_HALTED = "rollout_halted"
    RECALLED = "recalled"
    PLATFORM_MISMATCH = "platform_mismatch"
    OTHER_SEGMENT = "other_segment"
    DEPENDENCY_MISSING = "dependency_missing"
    CONFLICT_INSTALLED = "conflict_installed"
    QUARANTINED = "quarantined"
    INSTALLER_UNKNOWN = "installer_unknown"
    BUSY = "busy"

    # Trust: why what was given is not believed.
    METADATA_EXPIRED = "metadata_expired"
    METADATA_UNREACHABLE = "metadata_unreachable"
    METADATA_UNTRUSTED = "metadata_untrusted"
    DOCUMENT_MALFORMED = "document_malformed"
    SCHEDULE_MISSING = "schedule_missing"
    SCHEDULE_OUTSIDE_POLICY = "schedule_outside_policy"
    PAYLOAD_MISMATCH = "payload_mismatch"
    TORRENT_MISMATCH = "torrent_mismatch"

    # Transfer: why no byte comes from there now.
    WAITING_FOR_AMBASSADOR = "waiting_for_ambassador"
    DISCOVERY_SETTLING = "discovery_settling"
    TOOK_OVER_STALLED = "took_over_stalled"
    AMBASSADORS_UNSEEN = "ambassadors_unseen"
    ORIGIN_UNREACHABLE = "origin_unreachable"
    ORIGIN_REFUSED = "origin_refused"
    NO_PEERS = "no_peers"
    NO_NETWORK_ADDRESS = "no_network_address"
    PEER_UNREACHABLE = "peer_unreachable"
    PEER_LOST = "peer_lost"
    PEER_SLOW = "peer_slow"
    PEER_CORRUPT = "peer_corrupt"
    PEER_NOT_NEEDED = "peer_not_needed"
    MORE_SEVERE_FIRST = "more_severe_first"
    LINK_METERED = "link_metered"
    LINK_VPN = "link_vpn"
    BATTERY_LOW = "battery_low"
    DELTA_BASE_DIFFERS = "delta_base_differs"
    DELTA_FAILED = "delta_failed"
    DELTA_OUT_OF_REACH = "delta_out_of_reach"
    DELTA_FALLBACK_FORBIDDEN = "delta_fallback_forbidden"
    DELTA_FALLBACK_OVER_BUDGET = "delta_fallback_over_budget"
    DISK_FULL = "disk_full"
    STORAGE_FAILED = "storage_failed"

    # Installing: why it failed, or was undone.
    PAYLOAD_MISSING = "payload_missing"
    FALLBACK_MISSING = "fallback_missing"
    FALLBACK_FORBIDDEN = "fallback_forbidden"
    INSTALLER_UNREACHABLE = "installer_unreachable"
    INSTALL_FAILED = "install_failed"
    HEALTH_CHECK_FAILED = "health_check_failed"
    ROLLBACK_FAILED = "rollback_failed"
    NOT_ON_PROBATION = "not_on_probation"

    # Rollout gates: why a ring does not open.
    RING_EMPTY = "ring_empty"
    RING_SOAKING = "ring_soaking"
    EVIDENCE_MISSING = "evidence_missing"
    ERROR_GATE = "error_gate"
    WITHDRAWN = "withdrawn"

    # Coordinator: why a request was refused.
    TOKEN_UNKNOWN = "token_unknown"  # noqa: S105 (a reason code, not a secret)
    TOKEN_EXPIRED = "token_expired"  # noqa: S105 (a reason code, not a secret)
    TOKEN_USED = "token_used"  # noqa: S105 (a reason code, not a secret)
    DEVICE_NAME_TAKEN = "device_name_taken"
    DEVICE_UNKNOWN = "device_unknown"
    CERTIFICATE_EXPIRED = "certificate_expired"
    CERTIFICATE_OTHER_SEGMENT = "certificate_other_segment"
    SIGNATURE_INVALID = "signature_invalid"
    REQUEST_TOO_LARGE = "request_too_large"
    TOKEN_OTHER_DEVICE = "token_other_device"  # noqa: S105 (a reason code, not a secret)
    SITE_FULL = "site_full"
    CLOCK_SKEWED = "clock_skewed"
    SEQUENCE_REUSED = "sequence_reused"
    TOO_MANY_REQUESTS = "too_many_requests"
    COORDINATOR_UNAVAILABLE = "coordinator_unavailable"


_SENTENCES: dict[Reason, str] = {
    Reason.ALREADY_INSTALLED: "this version is installed and committed here",
    Reason.OLDER_THAN_INSTALLED: "a release with a higher counter is installed; only a signed rollback goes back",
    Reason.SUPERSEDED: "a newer release of the same product is offered",
    Reason.RING_NOT_OPEN: "this endpoint's ring is not open yet; earlier rings must commit first",
    Reason.ROLLOUT_HALTED: "the rollout was halted after a failure in an earlier ring",
    Reason.RECALLED: "the release was withdrawn by a signed recall",
    Reason.PLATFORM_MISMATCH: "the release is for another operating system or machine type",
    Reason.OTHER_SEGMENT: "the release carries no torrent for this endpoint's segment",
    Reason.DEPENDENCY_MISSING: "a product that the release depends on is missing or too old",
    Reason.CONFLICT_INSTALLED: "a product that the release conflicts with is installed",
    Reason.QUARANTINED: "the release failed on this endpoint before; only a new release is tried",
    Reason.INSTALLER_UNKNOWN: "no installer of the kind that the release asks for is present here",
    Reason.BUSY: "another release of the same product is being installed",
    Reason.METADATA_EXPIRED: "signed metadata has expired; nothing new is installed until it is renewed",
    Reason.METADATA_UNREACHABLE: "the origin does not answer with metadata; peers on the LAN are asked instead",
    Reason.METADATA_UNTRUSTED: "metadata failed verification and was discarded",
    Reason.DOCUMENT_MALFORMED: "a signed document could not be read by this version of p2pd",
    Reason.SCHEDULE_MISSING: "no signed schedule names this endpoint's site",
    Reason.SCHEDULE_OUTSIDE_POLICY: "the schedule asks for more than the signed policy allows, and was ignored",
    Reason.PAYLOAD_MISMATCH: "the bytes received are not the bytes that were signed",
    Reason.TORRENT_MISMATCH: "the torrent file does not describe the signed payload",
    Reason.WAITING_FOR_AMBASSADOR: "a better-ranked endpoint of this site fetches from the origin",
    Reason.DISCOVERY_SETTLING: "waiting a moment for better-ranked endpoints to show themselves",
    Reason.TOOK_OVER_STALLED: "nothing moved, so this endpoint fetches from the origin in the ambassador's place",
    Reason.AMBASSADORS_UNSEEN: "no better-ranked endpoint shows itself, so this one fetches from the origin",
    Reason.ORIGIN_UNREACHABLE: "the origin does not answer",
    Reason.ORIGIN_REFUSED: "the origin answered with an error or with the wrong bytes",
    Reason.NO_PEERS: "no endpoint on this LAN has shown itself with this release",
    Reason.NO_NETWORK_ADDRESS: "no configured interface has a link and an address now; p2pd goes on when one has",
    Reason.PEER_UNREACHABLE: "the peer announces itself and does not answer; it is dialled again later",
    Reason.PEER_LOST: "the connection to the peer was lost; it is dialled again in a moment",
    Reason.PEER_SLOW: "the peer offered pieces and sent almost nothing; what it offers does not count for a while",
    Reason.PEER_CORRUPT: "the peer sent data with a wrong hash; it is left alone for a while",
    Reason.PEER_NOT_NEEDED: "there are enough connections; this peer is reached through others",
    Reason.DELTA_BASE_DIFFERS: "what the delta builds upon is not here, or not as it was signed",
    Reason.DELTA_FAILED: "the delta could not be applied",
    Reason.DELTA_OUT_OF_REACH: "nobody has sent any of the delta for a while",
    Reason.DELTA_FALLBACK_FORBIDDEN: "no delta can be used here, and the policy forbids fetching the full payload",
    Reason.DELTA_FALLBACK_OVER_BUDGET: "no delta can be used here, and the full payload is over the policy's budget",
    Reason.MORE_SEVERE_FIRST: "a more severe patch has the links; this one gets what is left, and all of it afterwards",
    Reason.LINK_METERED: "the network is metered, and the policy restricts what may be fetched over it",
    Reason.LINK_VPN: "the way to the origin goes through a VPN, and the policy restricts what may use it",
    Reason.BATTERY_LOW: "this endpoint runs on a battery that is low, and the policy restricts what it may do then",
    Reason.DISK_FULL: "not enough space on disk",
    Reason.STORAGE_FAILED: "the disk could not be read or written",
    Reason.PAYLOAD_MISSING: "the payload was removed before it could be installed",
    Reason.FALLBACK_MISSING: "the version to fall back to is not on disk, so the install was refused",
    Reason.FALLBACK_FORBIDDEN: "the release forbids going back to the version that is installed",
    Reason.INSTALLER_UNREACHABLE: "p2pd-install does not answer on its socket",
    Reason.INSTALL_FAILED: "the installer failed; the previous version stays active",
    Reason.HEALTH_CHECK_FAILED: "a health check failed during probation",
    Reason.ROLLBACK_FAILED: "the previous version could not be verified or restored",
    Reason.NOT_ON_PROBATION: "the release is not in use here, so it cannot be committed",
    Reason.RING_EMPTY: "the ring has no members, so it can give no evidence; pin a device or set at_least",
    Reason.RING_SOAKING: "the ring passed its gate and is soaking",
    Reason.EVIDENCE_MISSING: "not enough signed reports of committed endpoints yet",
    Reason.ERROR_GATE: "too many endpoints of the ring failed",
    Reason.WITHDRAWN: "the release was withdrawn",
    Reason.TOKEN_UNKNOWN: "the enrolment token is not known to this coordinator",
    Reason.TOKEN_EXPIRED: "the enrolment token has expired; make another with `p2pctl enroll-token`",
    Reason.TOKEN_USED: "the enrolment token was used up; make another with `p2pctl enroll-token`",
    Reason.DEVICE_NAME_TAKEN: "another device has this name; choose another or issue a token for this name",
    Reason.DEVICE_UNKNOWN: "the coordinator knows no such device",
    Reason.CERTIFICATE_EXPIRED: "the device certificate expired longer ago than the renewal grace; enrol again",
    Reason.CERTIFICATE_OTHER_SEGMENT: "the certificate belongs to another segment",
    Reason.SIGNATURE_INVALID: "the envelope is not signed by the device that it names",
    Reason.REQUEST_TOO_LARGE: "the request is larger than the coordinator accepts",
    Reason.TOKEN_OTHER_DEVICE: "the enrolment token was issued for another device name",
    Reason.SITE_FULL: "the site has as many endpoints as one schedule can hold; enrol into another site",
    Reason.CLOCK_SKEWED: "the time in the request is too far from the coordinator's; set the device's clock",
    Reason.SEQUENCE_REUSED: "the device has sent another report under this sequence number; is it a clone?",
    Reason.TOO_MANY_REQUESTS: "too many requests from this address; try again later",
    Reason.COORDINATOR_UNAVAILABLE: "the coordinator cannot do this now; try again later",
}


def explain(reason: Reason) -> str:
    """Return the sentence for people that belongs to `reason`; every code has one."""
    return _SENTENCES[reason]


PASSING = frozenset(
    {
        Reason.BATTERY_LOW,
        Reason.BUSY,
        Reason.CONFLICT_INSTALLED,
        Reason.DELTA_BASE_DIFFERS,
        Reason.DELTA_FAILED,
        Reason.DELTA_FALLBACK_FORBIDDEN,
        Reason.DELTA_FALLBACK_OVER_BUDGET,
        Reason.DELTA_OUT_OF_REACH,
        Reason.DEPENDENCY_MISSING,
        Reason.DISK_FULL,
        Reason.FALLBACK_FORBIDDEN,
        Reason.FALLBACK_MISSING,
        Reason.INSTALLER_UNREACHABLE,
        Reason.LINK_METERED,
        Reason.LINK_VPN,
        Reason.METADATA_EXPIRED,
        Reason.METADATA_UNREACHABLE,
        Reason.METADATA_UNTRUSTED,
        Reason.NO_NETWORK_ADDRESS,
        Reason.ORIGIN_REFUSED,
        Reason.ORIGIN_UNREACHABLE,
        Reason.PAYLOAD_MISSING,
        Reason.RING_NOT_OPEN,
        Reason.ROLLOUT_HALTED,
        Reason.SCHEDULE_MISSING,
        Reason.SCHEDULE_OUTSIDE_POLICY,
        Reason.STORAGE_FAILED,
        Reason.SUPERSEDED,
    }
)
"""Why an attempt failed without saying anything about the release itself: the endpoint tries it again, and the rollout
waits for it. Every other failure quarantines the release on the endpoint, and counts against it in the gates."""


def is_passing(reason: Reason | None) -> bool:
    """Whether a failure for that reason is the endpoint's passing trouble; not knowing why is no excuse."""
    return reason in PASSING
