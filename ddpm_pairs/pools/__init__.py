"""``ddpm-pairs pools``: blur kernels and noise patches of real LQ images, collected for ``RealSR``."""
