"""The one adapter between `lumina` and ComfyUI's internals; the only folder that imports comfy.

options         how a run's settings reach the model, one step at a time
attention       the host's attention, rotation and weight casting, in the shapes lumina asks for
model           Next-DiT as the host's BaseModel: time, sign, conditioning, patches
guidance        which latent channels classifier-free guidance acts on
tokenizer       Gemma's tokenizer, from the file that travels with the weights
text_encoder    Gemma as the host's CLIP
loading         a name in a dropdown -> MODEL, CLIP
"""
