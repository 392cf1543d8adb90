"""Recordings: reading them in any format, lists of them, where in them somebody speaks."""

SAMPLE_RATE = 16_000
"""Samples per second of all audio inside of littlefoot, which is what its models were trained on."""
