"""Compression methods, one file each; ``run`` chains them as a recipe says."""

from littlefoot.compress.chain import run
from littlefoot.compress.recipe import load as load_recipe

__all__ = ["load_recipe", "run"]
