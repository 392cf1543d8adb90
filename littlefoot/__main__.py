"""``python -m littlefoot``, for launchers that take a module: ``accelerate launch -m littlefoot``."""

from littlefoot.cli import main

main()
