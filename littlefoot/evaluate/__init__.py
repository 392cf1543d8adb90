"""Measure what models get right, with intervals, and what their layers do."""
