"""Fitted solvers in ComfyUI: their files, their use, and the fit itself."""
