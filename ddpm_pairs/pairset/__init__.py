"""The format of a pairs folder and its packed copies: reading, writing, verifying, and merging."""
