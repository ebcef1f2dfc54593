"""A graphics card emulated by torch's "meta" device, to see without a card what one would hold.

Real: ComfyUI's loading, patchers, layers and dtype rules, the pack's own code, and every shape,
dtype and device. Tensors on the card have no values: an operation that mixes the card with the CPU
is an error, and so is waiting for a value. Not real: speed, values, CUDA's own memory and
fragmentation. For dynamic VRAM the calls into comfy_aimdo's library are stood in for, too.
"""

import contextlib
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import torch
from safetensors import safe_open
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CARD = torch.device("meta")
HALF = (torch.float16, torch.bfloat16)
ATTENTION = torch.ops.aten.scaled_dot_product_attention.default
PLAIN_ATTENTION = torch.ops.aten._scaled_dot_product_attention_math.default
# What may name the card and the CPU at once: to copy, and to ask whether one can become the other.
BETWEEN = (torch.ops.aten.copy_.default, torch.ops.aten._has_compatible_shallow_copy_type.default)
GIB = 1 << 30


@dataclass(frozen=True)
class Kind:
    """What a card computes in, its memory in bytes, and what is taken of it by now."""

    bf16: bool = True
    fp16: bool = True
    memory: int = 24 * GIB
    taken: Callable[[], int] = lambda: 0


AMPERE = Kind()
TURING = Kind(bf16=False)


class Allocations(TorchDispatchMode):
    """Counts the bytes of the card that tensors made inside the `with` block hold.

    peak: the most at once. largest: the largest single one. live: those that are still held.
    Under inference_mode, where ComfyUI runs, torch hands over layers such as attention and RMS
    norm as one operation, of which only the output is counted: CUDA has fused kernels for them.
    Attention without one is taken apart.
    """

    def __init__(self):
        super().__init__()
        self.live = self.peak = self.largest = 0
        self._sizes = weakref.WeakKeyDictionary()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        check_devices(function, (args, kwargs))
        if is_plain_attention(function, *args, **kwargs):
            with self:
                return function.decompose(*args, **kwargs)
        given = {
            tensor.untyped_storage() for tensor in tree_leaves((args, kwargs)) if on_card(tensor)
        }
        out = function(*args, **kwargs)
        for storage in {t.untyped_storage() for t in tree_leaves(out) if on_card(t)} - given:
            self._hold(storage)
        return out

    def _hold(self, storage):
        if storage in self._sizes:
            return
        size = self._sizes[storage] = storage.nbytes()
        self.live += size
        self.peak, self.largest = max(self.peak, self.live), max(self.largest, size)
        weakref.finalize(storage, self._release, size)

    def _release(self, size):
        self.live -= size


def on_card(value):
    return isinstance(value, torch.Tensor) and value.device == CARD


def check_devices(function, arguments):
    """Raise RuntimeError where CUDA would, for "meta" lets some operations mix it with the CPU."""
    tensors = [leaf for leaf in tree_leaves(arguments) if isinstance(leaf, torch.Tensor)]
    elsewhere = [t for t in tensors if t.device != CARD and t.ndim > 0]
    if elsewhere and any(map(on_card, tensors)) and function not in BETWEEN:
        raise RuntimeError(f"{function} mixes tensors on the card and on {elsewhere[0].device}")


def is_plain_attention(function, q=None, k=None, v=None, mask=None, *_, **kwargs):
    """Whether this is attention without a fused kernel in torch 2.13's CUDA: it keeps all scores.

    Flash and cuDNN take half precision and grouped heads, but flash no mask. The memory-efficient
    kernel takes any dtype and a mask, but no grouped heads.
    """
    if function is not ATTENTION or not on_card(q):
        return function is PLAIN_ATTENTION
    is_grouped = q.shape[1] != k.shape[1]
    return is_grouped and (q.dtype not in HALF or kwargs.get("attn_mask", mask) is not None)


class AddressSpace:
    """comfy_aimdo's ModelVBAR, where every weight finds room on the card."""

    def __init__(self, size=0, device=None):
        self.size = 0

    def prioritize(self):
        pass

    def alloc(self, size):
        self.size += size
        return (self, 0, size)

    def loaded_size(self):
        return self.size

    def free_memory(self, size):
        return 0


@contextlib.contextmanager
def emulated_card(monkeypatch, kind=AMPERE, *, backend="attention_pytorch", dynamic=False):
    """Inside the block ComfyUI believes that it has this card; nothing else of it is changed.

    backend: the host's attention for diffusion models, by its function's name. dynamic: weights are
    streamed by ModelPatcherDynamic, the default on NVIDIA cards.
    """
    import comfy.ldm.modules.attention as attention
    import comfy.memory_management
    import comfy.model_management as management
    import comfy.model_patcher

    with monkeypatch.context() as patch:
        patch.setattr(management, "get_torch_device", lambda: CARD)
        patch.setattr(management, "get_total_memory", amount(lambda: kind.memory))
        patch.setattr(management, "get_free_memory", amount(lambda: kind.memory - kind.taken()))
        patch.setattr(management, "should_use_bf16", takes(kind.bf16))
        patch.setattr(management, "should_use_fp16", takes(kind.fp16))
        patch.setattr(management, "pytorch_attention_enabled", lambda: True)
        patch.setattr(management, "pytorch_attention_flash_attention", lambda: True)
        patch.setattr(management, "vram_state", management.VRAMState.NORMAL_VRAM)
        patch.setattr(management, "current_loaded_models", [])
        patch.setattr(attention, "optimized_attention", getattr(attention, backend))
        if dynamic:
            emulate_dynamic_memory(patch)
            patch.setattr(comfy.memory_management, "aimdo_enabled", True)
            patcher = comfy.model_patcher.ModelPatcherDynamic
            patch.setattr(comfy.model_patcher, "CoreModelPatcher", patcher)
        yield


def amount(count):
    def memory(dev=None, **also_of_torch):
        return (count(),) * 2 if any(also_of_torch.values()) else count()

    return memory


def takes(supported):
    def should_use(device=None, *args, **kwargs):
        return supported and (device is None or device.type != "cpu")

    return should_use


def emulate_dynamic_memory(patch):
    import comfy.utils
    import comfy_aimdo.host_buffer
    import comfy_aimdo.model_vbar as vbar
    import comfy_aimdo.torch
    from comfy.cli_args import args

    patch.setattr(comfy.utils, "load_safetensors", read_plainly)
    patch.setattr(args, "disable_pinned_memory", True)
    patch.setattr(comfy_aimdo.host_buffer, "HostBuffer", lambda *sizes: AddressSpace())
    patch.setattr(vbar, "ModelVBAR", AddressSpace)
    patch.setattr(vbar, "vbar_fault", lambda alloc: b"resident")
    patch.setattr(vbar, "vbar_unpin", lambda alloc: None)
    patch.setattr(
        comfy_aimdo.torch,
        "aimdo_to_tensor",
        lambda alloc, device: torch.empty(alloc[2], dtype=torch.uint8, device=device),
    )


def read_plainly(path):
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}
