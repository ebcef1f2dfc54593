"""Conversion of model files: packs a text encoder's folder into one file, piece by piece."""
