"""``ddpm-pairs score``."""
