"""Next-DiT as a MODEL of ComfyUI: network on the host's layers, conditioning, loading."""
