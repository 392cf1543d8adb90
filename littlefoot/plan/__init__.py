"""Say what is needed, get the best model that fits: ``littlefoot shrink --target``."""
