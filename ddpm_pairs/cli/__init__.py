"""The command line: the program, the Trainer's verbs and their jobs."""
