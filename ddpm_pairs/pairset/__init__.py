"""The pairs folder: one room that reads and writes its format."""
