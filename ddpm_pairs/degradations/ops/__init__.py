"""Pure batched operations from which degradations are built."""
