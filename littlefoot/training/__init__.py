"""Training with PyTorch: models, losses and the training loop. Inference never imports this room."""

from littlefoot.training.module import CTCModel, from_pretrained

__all__ = ["CTCModel", "from_pretrained"]
