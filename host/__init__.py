"""The one adapter between `lumina` and ComfyUI's internals; the only folder that imports comfy.

options         what one model call knows, and what it takes into the network
settings        what a user sets on a MODEL, and what it means for each model call
attention       the host's attention, rotation and weight casting, in the shapes lumina asks for
conditioning    prompts: batching captions of any length, refusing those that do not fit
model           Next-DiT as the host's BaseModel: time, sign, conditioning, patches
guidance        which channels cfg acts on, when, and within which bounds
sampling        KSampler's way of running a model, on lumina's schedules and solvers
model_folders   what the dropdowns list, and where on disk a name leads
notices         warnings, in the log and on the running node
tokenizer       Gemma's tokenizer, from the file that travels with the weights
text_encoder    Gemma as the host's CLIP
loading         a name in a dropdown -> MODEL, CLIP
"""
