"""Nodes called as ComfyUI calls them."""


def node(name, **inputs):
    """What the node of that name puts out; without the tuple if that is one thing."""
    import nodes

    kind = nodes.NODE_CLASS_MAPPINGS[name]
    out = getattr(kind(), kind.FUNCTION)(**inputs)
    out = getattr(out, "args", out)
    return out[0] if isinstance(out, tuple) and len(out) == 1 else out


def has_node(name):
    """Whether this version of ComfyUI has the node."""
    import nodes

    return name in nodes.NODE_CLASS_MAPPINGS


def encode(clip, text):
    """Features of "CLIP Text Encode", and what it gives out beside them."""
    ((features, rest),) = node("CLIPTextEncode", clip=clip, text=text)
    return features, rest
