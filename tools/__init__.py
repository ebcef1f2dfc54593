"""What the commands run in: a Python environment and ComfyUI, both in this repository's folder."""
