"""Prompts before they are tokens: templates, cleaning, enhancing, and each family's rules."""
