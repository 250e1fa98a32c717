"""The jobs behind the Trainer's verbs: each finds every reason not to begin, and returns the work."""
