"""HTML reports as single files: styles, scripts and images are inside, so a page opens from disk without a network."""
