"""The losses of restorers."""
