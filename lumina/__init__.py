"""Lumina-Next without ComfyUI: the model and its maths, in plain torch.

config        what a Next-DiT is made of; the released sizes
options       what one run may change about a forward pass
model         NextDiT itself; patches, rope and attention are its three ingredients
gemma         the text encoder (Gemma-1), as far as Lumina-Next uses it
schedules     the noise levels of a run: uniform, rational, sigmoid
solvers       from noise to picture by Runge-Kutta rules, in k-diffusion's form
prompt        the rules by which captions become tokens and masks
files         checkpoint files on disk: shards, formats, what is wrong with a bad one
checkpoints   key names, the architecture read from weights, loading

Convention everywhere: time t runs from 0 (noise) to 1 (picture); the network predicts the
velocity, picture minus noise.
"""
