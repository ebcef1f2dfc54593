"""What a user sets on a MODEL, and how it travels to each model call."""
