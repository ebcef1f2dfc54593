"""Next-DiT as a MODEL of ComfyUI: its network on the host's layers, and what each call brings."""
