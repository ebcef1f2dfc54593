"""Model files as the host lists them: found by name, read, checked, and written anew."""
