"""Find the best model that meets a target: ``littlefoot shrink --target``."""
