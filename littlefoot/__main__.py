"""``python -m littlefoot``, for launchers that take a module: ``accelerate launch -m littlefoot train ...``."""

from littlefoot.cli import main

main()
