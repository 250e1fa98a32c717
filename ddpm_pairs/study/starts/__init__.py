"""Table 3 of the paper: ways to make LQ compared, each as it is and as the start of a walk."""
