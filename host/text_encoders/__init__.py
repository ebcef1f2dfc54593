"""Language models as a CLIP of ComfyUI: recognized, built on the host's layers, loaded."""
