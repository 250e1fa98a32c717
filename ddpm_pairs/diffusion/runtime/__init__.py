"""How the network runs: precision, batch slots, threads, compilation."""
