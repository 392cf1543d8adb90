"""Products of few-bit weights that stay packed in memory, and the network around them."""

from littlefoot_native._core import FrontEnd, LiveModel, Product, Program, available, has_bfloat16

__all__ = ["FrontEnd", "LiveModel", "Product", "Program", "available", "has_bfloat16"]
__version__ = "0.1.0"
