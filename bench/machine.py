# SPDX-License-Identifier: Apache-2.0
"""What figures were measured on, in a few words that name no host."""

import os
import platform
from pathlib import Path

import psutil


def machine_in_words() -> str:
    """Processor, cores, memory, kernel, Python."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{os.cpu_count()} cores ({_processor()}), {memory:.0f} GiB of memory, "
        f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
