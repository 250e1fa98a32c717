"""``ddpm-pairs preview``."""
