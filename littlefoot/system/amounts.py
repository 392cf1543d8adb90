"""Write amounts with units."""


def in_bytes(count: float) -> str:
    """Write a number of bytes in the largest unit of which there is at least one, such as "5.6 kB"."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"


def in_time(seconds: float) -> str:
    """Write a duration in the largest unit of which there are at least two, such as "95 s" or "2.5 h"."""
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
