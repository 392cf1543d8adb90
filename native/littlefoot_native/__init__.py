"""Products of few-bit weights that stay packed in memory, and the Transformer around them."""

from littlefoot_native._core import Product, Program, available, has_bfloat16

__all__ = ["Product", "Program", "available", "has_bfloat16"]
__version__ = "0.1.0"
