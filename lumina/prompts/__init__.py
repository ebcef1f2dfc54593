"""Prompts before they are tokens: templates, cleaning, enhancing, and the prompt formats."""
