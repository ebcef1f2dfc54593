"""Model files in ComfyUI's folders: listed, found by name, read, checked, and packed."""
