# SPDX-License-Identifier: Apache-2.0
"""Which of a product's offered releases to install now, and what to say of each of the others. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from p2pd.decisions.eligibility import Endpoint, Refusal, judge
from signing.manifest import Manifest
from signing.policy import Policy
from signing.reasons import Reason
from signing.recall import RecallList
from signing.schedule import Offer


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One offer with its verified manifest."""

    offer: Offer
    manifest: Manifest


@dataclass(frozen=True, kw_only=True)
class Choice:
    """`start` is the manifest digest to install, if any; `refusals` speaks of every other candidate."""

    start: str | None
    refusals: Mapping[str, Refusal]


def choose(
    candidates: Sequence[Candidate],
    *,
    endpoint: Endpoint,
    policy: Policy,
    recalls: RecallList,
    general: Refusal | None,
    resting: Mapping[str, Refusal],
) -> Choice:
    """The newest candidate of one product that may be installed.

    `general` stands against installing anything (expired metadata, a schedule outside the policy); `resting` names
    releases that failed for a passing reason a moment ago.
    """
    start: str | None = None
    refusals: dict[str, Refusal] = {}
    for candidate in sorted(candidates, key=lambda c: c.offer.release_counter, reverse=True):
        sha256 = candidate.offer.manifest_sha256
        refusal = judge(candidate.manifest, candidate.offer, endpoint=endpoint, policy=policy, recalls=recalls)
        if refusal is None:
            refusal = general or resting.get(sha256)
        if refusal is None and start is not None:
            refusal = Refusal(reason=Reason.SUPERSEDED)
        if refusal is None:
            start = sha256
        else:
            refusals[sha256] = refusal
    return Choice(start=start, refusals=refusals)
