"""Read recordings in any format and lists of them, and find the speech in them."""

SAMPLE_RATE = 16_000
"""Samples per second of all audio inside littlefoot, the rate that its models were trained on."""
