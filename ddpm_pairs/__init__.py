"""ddpm_pairs: realistic HQ-LQ training pairs for image restoration, made with a DDPM of your own LQ pictures.

Importing the package imports nothing else, so that ``lightning --help`` answers at once.
"""

__version__ = "0.1.0"
