"""Lumina-Next without ComfyUI: the model and its maths, in plain torch.

The model
config        what a Next-DiT is made of; the released sizes
model         NextDiT itself
patches       latent pictures to tokens and back
rope          where tokens stand: rotary position embedding
decoder       the text encoders Gemma-1 and LLaMA-2
prompt        the rules by which captions become tokens and masks
captions      prompts cleaned and put into templates
generation    text written by the decoder, token by token

A run of it
schedules     the noise levels of a run: uniform, rational, sigmoid
solvers       from noise to picture by Runge-Kutta rules, in k-diffusion's form
tableaus      those rules, checked
guidance      what may follow classifier-free guidance
resolution    position frequencies beyond the trained size
context_drop  attention to averaged keys and values
settings      what a user sets for a run, and what it means for each model call
options       what one model call may change about the forward pass

Its files
files         checkpoint files on disk: shards, formats, folders
broken_files  what is wrong with a file that cannot be read
wrong_models  which other model a file holds
key_names     the released names of weights, and the other spellings
checkpoints   the architecture read from weights, strictness, loading
text_checkpoints  the same for the decoders among the text encoders
t5_checkpoints  the same for T5
streams       the tensors of a weights file in pieces, for files larger than memory
text_folders  what in a Hugging Face folder makes up a text encoder
packing       such a folder as one file; also a command

Convention everywhere: time t runs from 0 (noise) to 1 (picture); the network predicts the
velocity, picture minus noise.
"""
