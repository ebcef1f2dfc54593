"""What differs between the versions of ComfyUI that the pack runs in, 0.16.3 and newer.

Each difference is one name here, which looks at what ComfyUI has rather than at its number. Its
private functions that the pack uses are listed too: a version without one is refused with a
sentence when the pack is imported.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping
from operator import attrgetter

import comfy.ops
import comfy.sample
import comfyui_version
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

try:
    from comfy.model_prefetch import make_prefetch_queue, prefetch_queue_pop
except ModuleNotFoundError:  # up to 0.18, which loads each layer's weights when it runs

    def make_prefetch_queue(
        queue: list, device: torch.device, transformer_options: Mapping[str, object]
    ) -> None:
        return None

    def prefetch_queue_pop(queue: None, device: torch.device, module: object) -> None:
        return None


__all__ = [
    "ATTENTION_SHARES_HEADS",
    "COMPILED_CODE_MAY_BRANCH",
    "RUNNING",
    "check",
    "embedding_at_start",
    "fitted_latent",
    "make_prefetch_queue",
    "prefetch_queue_pop",
]

OLDEST = "0.16.3"
RUNNING = comfyui_version.__version__
PRIVATE = (
    # Wrappers of other nodes run before it, and compiled code begins inside it.
    ("comfy.model_base", "BaseModel._apply_model"),
    # The only way to a textual inversion by the name that a prompt gives it.
    ("comfy.sd1_clip", "SDTokenizer._try_get_embedding"),
)

# Whether attention takes `enable_gqa`; before, more heads of queries than of keys were an error.
ATTENTION_SHARES_HEADS = hasattr(comfy.ops, "repeat_kv_for_gqa")

# Before, torch breaks the graph wherever a dataclass changes, so that a branch would gain nothing.
COMPILED_CODE_MAY_BRANCH = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 7)


def check(version: str = RUNNING) -> None:
    """Raise ImportError for a ComfyUI without one of the private functions in PRIVATE."""
    for module, name in PRIVATE:
        try:
            attrgetter(name)(importlib.import_module(module))
        except AttributeError:
            raise ImportError(
                f"Lumina-Next cannot run in ComfyUI {version}, which has no {module}.{name}. "
                f"It runs in {OLDEST} and newer. Update ComfyUI if this one is older, or else "
                "this node pack."
            ) from None


def fitted_latent(model: ModelPatcher, samples: Tensor, sizes: Mapping[str, object]) -> Tensor:
    """An empty latent in the model's own channels and size; any other is returned as it is.

    sizes: what "Empty Latent Image" notes; older versions read fewer of them.
    """
    fit: Callable[..., Tensor] = comfy.sample.fix_empty_latent_channels
    known = inspect.signature(fit).parameters
    return fit(model, samples, **{name: size for name, size in sizes.items() if name in known})


def embedding_at_start(found: tuple, text: str) -> tuple[Tensor | None, str, str]:
    """The embedding, its name and the rest of `text`, from what `_try_get_embedding` found in it.

    Up to 0.18 it left the name out.
    """
    vectors, *name, rest = found
    return vectors, *(name or [text.split()[0]]), rest
