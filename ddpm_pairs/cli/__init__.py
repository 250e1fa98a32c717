"""The command line: the program, the Trainer's verbs, their jobs."""
