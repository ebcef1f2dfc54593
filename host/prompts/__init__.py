"""Prompts as tokens in the host's prompt syntax, and as CONDITIONING."""
