"""Write amounts with units."""


def in_bytes(count: float) -> str:
    """Write a number of bytes in the largest unit of which there is at least one, such as "5.6 kB"."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"
