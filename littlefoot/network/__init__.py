"""Describe a model: its geometry, its weights, and the one description of its computation."""
