"""How well the demo model draws, under every setting of the pack; in plain torch."""
