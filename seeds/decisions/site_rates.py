# SPDX-License-Identifier: Apache-2.0
"""What a site's schedule says of its links and members, by what its endpoints measured. Pure.

No single report counts for much: of all endpoints' figures it is a high quantile that is taken, since what hurries is
mostly seen too slow (a short transfer, a busy machine) and rarely too fast. And a figure stands until it is clearly
another one: a schedule that is signed anew costs every endpoint of the site a look.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from seeds.records import Measurement
from signing.bounds import MAX_RATE, MAX_ROUND_TRIP
from signing.schedule import Schedule, SiteRates

NEWEST = 32  # measurements of a site that count, of one endpoint each
QUANTILE = 0.75  # so that a quarter of them may be lies, whatever they say
STANDS_WITHIN = 1.5  # times or parts: as long as the new figure is no further away, the published one stays
STEPS_PER_DOUBLING = 2  # of the scale that figures are rounded to
LEAST_WEIGHT, MOST_WEIGHT = 0.25, 4.0


def site_rates(measurements: Sequence[Measurement], published: SiteRates | None) -> SiteRates | None:
    """The site's rates as its next schedule should have them; without any measurement, what is published."""
    newest = _newest(measurements)
    wan = _figure((each.measured.wan_bytes_per_s for each in newest), published.wan_bytes_per_s if published else None)
    lan = _figure(map(_lan, newest), published.lan_bytes_per_s if published else None)
    if wan is None or lan is None:
        return published
    # A short way to the origin is nobody's lie for long: here it is the middle that counts.
    trips = (each.measured.origin_round_trip for each in newest)
    rtt = _figure(trips, published.rtt_seconds if published else None, quantile=0.5)
    return SiteRates(
        wan_bytes_per_s=min(max(wan, 1.0), MAX_RATE),
        lan_bytes_per_s=min(max(lan, 1.0), MAX_RATE),
        rtt_seconds=None if rtt is None else min(rtt, MAX_ROUND_TRIP),
    )


def weights(
    members: Iterable[str], measurements: Sequence[Measurement], published: Mapping[str, float]
) -> dict[str, float]:
    """Every member's weight: how well it keeps up with what comes to its site, from LEAST_WEIGHT to MOST_WEIGHT.

    One that never measured anything weighs 1, as does one that keeps up.
    """
    found = {member: published.get(member, 1.0) for member in members}
    for each in measurements:
        measured, device = each.measured, each.device
        if device in found and measured.wan_bytes_per_s and measured.intake_bytes_per_s is not None:
            found[device] = _weight(measured.intake_bytes_per_s / measured.wan_bytes_per_s, found[device])
    return found


def published_weights(schedule: Schedule | None) -> dict[str, float]:
    """By member."""
    return {} if schedule is None else {member.device: member.weight for member in schedule.members}


def _newest(measurements: Sequence[Measurement]) -> list[Measurement]:
    return sorted(measurements, key=lambda each: (each.time, each.device), reverse=True)[:NEWEST]


def _lan(each: Measurement) -> float | None:
    """What an endpoint's port takes it mostly gives, too; either shows only while it is asked for."""
    seen = [rate for rate in (each.measured.lan_in_bytes_per_s, each.measured.lan_out_bytes_per_s) if rate is not None]
    return max(seen, default=None)


def _figure(seen: Iterable[float | None], published: float | None, *, quantile: float = QUANTILE) -> float | None:
    known = sorted(value for value in seen if value)
    if not known:
        return published
    value = known[math.ceil(quantile * len(known)) - 1]
    if published and published / STANDS_WITHIN <= value <= published * STANDS_WITHIN:
        return published
    return _rounded(value)


def _weight(ratio: float, published: float) -> float:
    bounded = min(max(ratio, LEAST_WEIGHT), MOST_WEIGHT)
    if published / STANDS_WITHIN <= bounded <= published * STANDS_WITHIN:
        return published
    return min(max(2.0 ** round(math.log2(bounded)), LEAST_WEIGHT), MOST_WEIGHT)


def _rounded(value: float) -> float:
    """To the nearest step of a scale of equal ratios, and to three digits, so that people can read it."""
    step = 2.0 ** (round(math.log2(value) * STEPS_PER_DOUBLING) / STEPS_PER_DOUBLING)
    return float(f"{step:.3g}")
