"""The networks of restorers and their discriminators."""
