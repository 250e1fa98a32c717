"""Reports as one HTML file each: everything is inside it, so that it opens from disk without a network."""
