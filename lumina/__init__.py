"""Lumina-Next without ComfyUI: the theory, in plain torch. The folders are its parts.

Convention everywhere: time t runs from 0 (noise) to 1 (picture); the network predicts the
velocity, picture minus noise.
"""
