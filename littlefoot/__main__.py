"""``python -m littlefoot``, for launchers that take a module: ``accelerate launch -m littlefoot``."""

from littlefoot.cli import main

if __name__ == "__main__":
    main()
