"""Checks what comes over a node's links: the host lets a number or a text through as a MODEL.

Graphs that programs write have such literals, and nodes whose outputs are of any type pass on all.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Conditioning = list[list]  # of [features, what else belongs to them]; most often just one


@dataclass(frozen=True)
class LinkType:
    """A type of the host's links. source: a node whose output is one."""

    name: str
    source: str
    is_one: Callable[[object], bool]


def _has(*names: str) -> Callable[[object], bool]:
    """By what is used of it: other packs have classes of their own."""
    return lambda value: all(hasattr(value, name) for name in names)


def _is_latent(value: object) -> bool:
    return isinstance(value, Mapping) and hasattr(value.get("samples"), "shape")


def _is_conditioning(value: object) -> bool:
    """A list of [features, settings]; features None where there is no text."""
    return isinstance(value, list) and all(
        isinstance(entry, list | tuple) and len(entry) == 2 and isinstance(entry[1], Mapping)
        for entry in value
    )


MODEL = LinkType("MODEL", "Load Lumina-Next Model", _has("model_options", "get_model_object"))
CLIP = LinkType("CLIP", "Load Lumina-Next Text Encoder", _has("tokenize", "encode_from_tokens"))
LATENT = LinkType("LATENT", "Empty Latent Image", _is_latent)
CONDITIONING = LinkType("CONDITIONING", "Lumina-Next Text Encode", _is_conditioning)
SIGMAS = LinkType("SIGMAS", "Lumina-Next Scheduler", _has("isfinite", "flatten"))


def _is_mask(value: object) -> bool:
    return hasattr(value, "shape") and hasattr(value, "amax")


MASK = LinkType("MASK", "Load Image (as Mask)", _is_mask)


def check_link(value: object, input_name: str, link: LinkType) -> None:
    """Raise ValueError unless what a node was given as this input is of the link's type."""
    if not link.is_one(value):
        raise ValueError(
            f'The input "{input_name}" needs a {link.name} and was given {_described(value)}. '
            f'Connect it to a node whose output is a {link.name}, such as "{link.source}".'
        )


def _described(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f'the text "{value[:40]}"'
    if isinstance(value, bool | int | float):
        return f"the value {value}"
    return f"something else ({type(value).__name__})"
