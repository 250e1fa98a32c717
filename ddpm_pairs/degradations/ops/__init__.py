"""Pure batched operations that degradations are made of."""
