"""What a model is made of: its geometry, its weights, and the one description of its computation."""
