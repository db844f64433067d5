# SPDX-License-Identifier: Apache-2.0
"""Reads a daemon's metrics as Prometheus does."""

import httpx
from prometheus_client.parser import text_string_to_metric_families

Metrics = dict[tuple[str, tuple[str, ...]], float]


async def scrape(address: str, port: int) -> Metrics:
    """The metrics of a daemon, by sample name and label values."""
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://{address}:{port}/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
