"""Recordings: reading them in any format, lists of them, where in them somebody speaks."""
