"""What memory this process holds, from Linux."""

import re
from pathlib import Path


def peak_bytes() -> int:
    """The most so far, of this program alone."""
    return _status("VmHWM")


def resident_bytes() -> int:
    """Now, pages of mapped files included."""
    return _status("VmRSS")


def _status(field: str) -> int:
    return int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
