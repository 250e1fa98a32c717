"""Execution of the network: precision, batch slots, threads, compilation."""
