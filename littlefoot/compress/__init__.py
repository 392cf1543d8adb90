"""Compression methods, one file each."""
