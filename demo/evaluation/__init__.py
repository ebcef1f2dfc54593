"""How well the demonstration model draws, under every setting of the pack; in plain torch."""
