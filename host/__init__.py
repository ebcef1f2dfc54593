"""The one adapter between `lumina` and ComfyUI's internals; the only folder that imports comfy.

options         what one model call knows, and what it takes into the network
settings        what a user sets on a MODEL, and what it means for each model call
attention       the host's attention, rotation and weight casting, in the shapes lumina asks for
conditioning    prompts: batching captions of any length, refusing those that do not fit
model           Next-DiT as the host's BaseModel: time, sign, conditioning, patches
guidance        which channels cfg acts on, when, and within which bounds
sampling        KSampler's way of running a model, on lumina's schedules and solvers
model_folders   what the dropdowns list, and where on disk a name leads
notices         what a node says, in the log and on the running node
encoder_rules   how each family of text encoders reads a prompt; one table
tokenizer_files vocabularies, found and opened
tokenizer       prompts as tokens, in the host's notation
prompts         a batch of prompts as one CONDITIONING, and what is said about them
text_encoder    text encoders as the host's CLIP; the decoder is one
t5_encoder      T5 on the host's own network
transformers_checkpoints  what a config.json and weights of any other text model mean
transformers_encoder  such a model, on weights that the host moves
generation      text written by the decoder, for the host's "Generate Text"
encoders        weights -> which text encoder; one reader for each family
packing         a text encoder's folder -> one file
loading         a name in a dropdown -> MODEL, CLIP
"""
