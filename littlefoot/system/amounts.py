"""Amounts in words."""


def in_bytes(count: float) -> str:
    """Bytes with the largest unit of which there is one, such as "5.6 kB": never "0 MB" for what is some."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"
