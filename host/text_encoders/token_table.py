"""The table of token embeddings, which is never widened to the dtype of computing as a whole.

Gemma's takes 0.5 GB in 8 bits and 2 GB in float32. A prompt needs some of its rows. Text that is
written needs them all, for the table is the output head too, but only a piece at a time.
"""

from collections.abc import Iterator

import comfy.ops
import torch
import torch.nn.functional as F
from torch import Tensor, nn

FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)
PIECE_ROWS = 2048


class TokenTable:
    """An embedding as SDClipModel calls it: the rows are looked up, then widened.

    The host's own embedding widens an 8-bit table first.
    """

    def __init__(self, embedding: nn.Module) -> None:
        self.embedding = embedding

    @property
    def weight(self) -> Tensor:
        """The table, whose device the host asks for."""
        return self.embedding.weight

    def __call__(self, tokens: Tensor, out_dtype: torch.dtype | None = None) -> Tensor:
        if self.weight.dtype not in FLOAT8 or _is_patched(self.embedding):
            return self.embedding(tokens, out_dtype=out_dtype)
        return self.embedding(tokens).to(out_dtype)


def casting_tied_head(embedding: nn.Module, state: Tensor) -> Tensor:
    """`TiedHead` by a table that the host may keep elsewhere, store in another dtype or patch."""
    # A patch is computed in the dtype that is asked for; without one the table comes as stored.
    dtype = state.dtype if _is_patched(embedding) else embedding.weight.dtype
    table, bias, stream = comfy.ops.cast_bias_weight(
        embedding, device=state.device, dtype=dtype, offloadable=True
    )
    scores = [F.linear(state, piece) for piece in _pieces(table, state.dtype)]
    comfy.ops.uncast_bias_weight(embedding, table, bias, stream)
    return torch.cat(scores, dim=-1)


def _pieces(table: Tensor, dtype: torch.dtype) -> Iterator[Tensor]:
    """The rows of a table in `dtype`: all at once if they are stored so, or some at a time."""
    scale = None
    if hasattr(table, "layout_cls"):  # the host's quantized tensor, which slices widen as a whole
        stored, *scales = table.layout_cls.get_plain_tensors(table)
        if stored.dtype in FLOAT8 and len(scales) == 1 and scales[0].numel() == 1:
            table, scale = stored, scales[0]
        else:
            table = table.dequantize()
    for piece in [table] if table.dtype == dtype else table.split(PIECE_ROWS):
        yield piece.to(dtype) if scale is None else piece.to(dtype) * scale.to(dtype)


def _is_patched(embedding: nn.Module) -> bool:
    """Whether the host adds a LoRA or the like to the weight when it casts it."""
    streamed = getattr(embedding, "weight_lowvram_function", None)  # with dynamic memory
    return bool(embedding.weight_function) or streamed is not None
