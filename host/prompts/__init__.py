"""Prompts as tokens in the host's notation, and as CONDITIONING."""
