"""Compression methods, one file each; ``run`` carries out a recipe of them."""

from littlefoot.compress.chain import run
from littlefoot.compress.recipe import load as load_recipe

__all__ = ["load_recipe", "run"]
