"""What a number was made on, where that takes no torch: facts beside a result, never part of a key."""

from __future__ import annotations

import os
import platform
from functools import cache

from takd.commit import commit


def machine() -> dict[str, str]:
    """Its processor, system, Python and the commit of this program."""
    return {
        "device_name": _processor(),
        "platform": _platform(),
        "python": platform.python_version(),
        "commit": commit(),
    }


@cache
def _platform() -> str:
    return platform.platform(terse=True)


@cache
def _processor() -> str:
    """Its name and number of cores."""
    try:
        with open("/proc/cpuinfo") as lines:
            name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        name = ""
    return f"{name or platform.processor() or platform.machine()} ({os.cpu_count()} cores)"
