"""Lumina-Next without ComfyUI: the theory, in plain torch. The folders are its parts.

Conventions: the network speaks of time t, from 0 (noise) to 1 (picture), and predicts the
velocity, picture minus noise. Schedules, solvers and guidance speak of sigma = 1 - t, as ComfyUI's
samplers do.
"""
