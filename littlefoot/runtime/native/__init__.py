"""A model run by the native kernels of ``littlefoot_native``, with weights that stay packed."""
