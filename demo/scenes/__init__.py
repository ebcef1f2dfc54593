"""What the demo model draws: scenes and captions, and pictures read back into them."""
