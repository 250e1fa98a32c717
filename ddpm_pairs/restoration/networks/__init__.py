"""Networks of restorers, and their discriminators."""
