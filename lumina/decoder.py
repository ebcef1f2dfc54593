"""The decoder of Gemma-1 and LLaMA-2 as a text encoder: tokens in, one of its hidden states out.

With its output head it also tells which token comes next, and a cache lets it read on where it
stopped. The two differ in four places, which `FAMILIES` lists. Attribute names are the Hugging Face
checkpoint's without the `model.` prefix. B batch, S tokens, D width. Gemma (arXiv:2403.08295),
Llama 2 (arXiv:2307.09288); every state agrees with transformers' GemmaModel and LlamaModel.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Layers(Protocol):
    """Where the layers come from: torch.nn, or a host's classes of the same names."""

    Linear: type[nn.Module]
    Embedding: type[nn.Module]


class Attention(Protocol):
    """Softmax attention of q (B, heads, S, head_dim) over k, v (B, kv_heads, past + S, head_dim).

    mask (B, 1, S, past + S) is added to the scores, in q's dtype; past is the number of tokens read
    before, 0 without a cache. Returns (B, heads, S, head_dim).
    """

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor, scale: float
    ) -> Tensor: ...


# Scores (..., vocab_size) of states (..., D) by an embedding that is the output head as well.
TiedHead = Callable[[nn.Module, Tensor], Tensor]


@dataclass(frozen=True)
class Family:
    """What one family of decoders does its own way.

    norm_offset is added to a norm's stored weight. scales_embeddings: by the square root of D.
    ties_head: the embedding is the output head as well.
    """

    name: str
    activation: Callable[[Tensor], Tensor]
    norm_offset: float
    scales_embeddings: bool
    ties_head: bool


FAMILIES = {
    "gemma": Family("Gemma-1", partial(F.gelu, approximate="tanh"), 1.0, True, True),
    "llama": Family("LLaMA-2", F.silu, 0.0, False, False),
}


@dataclass(frozen=True)
class DecoderConfig:
    """Family (a key of FAMILIES) and sizes of a decoder. Raises ValueError if they do not fit.

    has_output_head: the weights hold one of their own, `lm_head`.
    """

    family: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    norm_eps: float = 1e-6
    rope_theta: float = 1e4
    has_output_head: bool = False

    def __post_init__(self) -> None:
        if self.kv_heads < 1 or self.heads % self.kv_heads:
            raise ValueError(
                "The text encoder's heads must be a multiple of its kv_heads, got "
                f"{self.heads} and {self.kv_heads}"
            )
        if self.head_dim < 2 or self.head_dim % 2:
            raise ValueError(
                f"The text encoder rotates pairs, so head_dim must be even, got {self.head_dim}"
            )

    @property
    def norm_offset(self) -> float:
        return FAMILIES[self.family].norm_offset


class Decoder(nn.Module):
    """The decoder stack, on layers and an attention that a host may hand in.

    ops: source of Linear and Embedding. norm: class built as norm(size, eps=, offset=, device=,
    dtype=); a host whose layers cast weights at use subclasses RMSNorm. Activations keep the dtype
    of the embeddings, so weights of another dtype need such layers.
    """

    def __init__(
        self,
        config: DecoderConfig,
        *,
        ops: Layers = nn,
        attention: Attention | None = None,
        norm: "type[RMSNorm] | None" = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        norm = norm or RMSNorm
        where = {"device": device, "dtype": dtype}
        self.config = config
        self.embed_tokens = ops.Embedding(config.vocab_size, config.hidden_size, **where)
        self.layers = nn.ModuleList(
            DecoderLayer(config, ops, attention or scaled_dot_product_attention, norm, **where)
            for _ in range(config.layers)
        )
        self.norm = norm(
            config.hidden_size, eps=config.norm_eps, offset=config.norm_offset, **where
        )
        if config.has_output_head:
            self.lm_head = ops.Linear(config.hidden_size, config.vocab_size, bias=False, **where)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        embeds: Tensor | None = None,
        hidden_state: int = -2,
    ) -> Tensor:
        """One hidden state (B, S, D), numbered as transformers' `hidden_states`.

        -1 is the normalised output; any other is the input of a layer, un-normalised: -2 that of
        the last layer, 0 the scaled embeddings. Later layers do not run. input_ids (B, S), or
        embeds (B, S, D) as `embed` returns them. attention_mask (B, S): non-zero marks a token.
        """
        if (input_ids is None) == (embeds is None):
            raise ValueError("A decoder takes either input_ids or embeds, and exactly one of them")
        embeds = self.embed(input_ids) if embeds is None else embeds
        return self.hidden_states(embeds, attention_mask, (hidden_state,))[0]

    def embed(self, input_ids: Tensor) -> Tensor:
        """Token embeddings (B, S, D), before a sqrt(D) that the decoder may multiply by."""
        return self.embed_tokens(input_ids)

    def logits(self, state: Tensor, tied_head: TiedHead | None = None) -> Tensor:
        """Score of each token to come next (..., vocab_size), from normalised states (..., D).

        Raises ValueError for weights that came without an output head.
        """
        family = FAMILIES[self.config.family]
        if self.config.has_output_head:
            return self.lm_head(state)
        if family.ties_head:
            return (tied_head or embedding_as_head)(self.embed_tokens, state)
        raise ValueError(
            f"This {family.name} reads prompts but cannot write: its file was saved without the "
            'output head, "lm_head.weight". Load the files that the model was published with.'
        )

    def new_cache(self) -> "list[LayerCache]":
        """What `hidden_states` is given to remember the tokens of one text by."""
        return [LayerCache() for _ in self.layers]

    def hidden_states(
        self,
        embeds: Tensor,
        attention_mask: Tensor | None,
        indices: Iterable[int],
        cache: "Sequence[LayerCache] | None" = None,
    ) -> tuple[Tensor, ...]:
        """Several hidden states of one run, in the order asked; numbering as in `forward`.

        With a cache, embeds are what follows the tokens it holds, and they are added to it;
        attention_mask (B, past + S) then covers both.
        """
        wanted = [self._position(index) for index in indices]
        past = cache[0].tokens if cache else 0
        scaled = FAMILIES[self.config.family].scales_embeddings
        x = embeds * self.config.hidden_size**0.5 if scaled else embeds
        mask = causal_mask(x, attention_mask, past)
        rotation = rotation_table(
            x.shape[1],
            self.config.head_dim,
            theta=self.config.rope_theta,
            device=x.device,
            start=past,
        )
        found = {0: x}
        # Every layer must have read what a later call looks back at.
        last = self.config.layers if cache else max(wanted)
        for depth, layer in enumerate(self.layers[:last], start=1):
            x = layer(x, mask, rotation, cache[depth - 1] if cache else None)
            found[depth] = x if depth in wanted else None
        if self.config.layers in wanted:
            found[self.config.layers] = self.norm(x)
        return tuple(found[depth] for depth in wanted)

    def _position(self, index: int) -> int:
        count = self.config.layers + 1
        if not -count <= index < count:
            raise ValueError(
                f"hidden state {index} does not exist: a decoder of {self.config.layers} layers "
                f"has {count}, so choose from {-count} (embeddings) to -1 (output)"
            )
        return index % count


class DecoderLayer(nn.Module):
    """Self-attention, then a gated feed-forward, each normalised before and added after."""

    def __init__(
        self,
        config: DecoderConfig,
        ops: Layers,
        attention: Attention,
        norm: "type[RMSNorm]",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        where = {"device": device, "dtype": dtype}
        self.self_attn = SelfAttention(config, ops, attention, **where)
        self.mlp = FeedForward(config, ops, **where)
        make_norm = partial(norm, config.hidden_size, eps=config.norm_eps, **where)
        self.input_layernorm = make_norm(offset=config.norm_offset)
        self.post_attention_layernorm = make_norm(offset=config.norm_offset)

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        rotation: tuple[Tensor, Tensor],
        cache: "LayerCache | None" = None,
    ) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), mask, rotation, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class SelfAttention(nn.Module):
    """Rotary attention whose query heads share kv_heads keys and values (one, at 2B)."""

    def __init__(
        self,
        config: DecoderConfig,
        ops: Layers,
        attention: Attention,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        bare = {"bias": False, "device": device, "dtype": dtype}
        width, kv_width = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.head_dim = config.head_dim
        self.attention = attention
        self.q_proj = ops.Linear(config.hidden_size, width, **bare)
        self.k_proj = ops.Linear(config.hidden_size, kv_width, **bare)
        self.v_proj = ops.Linear(config.hidden_size, kv_width, **bare)
        self.o_proj = ops.Linear(width, config.hidden_size, **bare)

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        rotation: tuple[Tensor, Tensor],
        cache: "LayerCache | None" = None,
    ) -> Tensor:
        q = rotate(self._heads(self.q_proj(x)), rotation)
        k = rotate(self._heads(self.k_proj(x)), rotation)
        v = self._heads(self.v_proj(x))
        if cache is not None:
            k, v = cache.extend(k, v)
        mixed = self.attention(q, k, v, mask=mask, scale=self.head_dim**-0.5)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # (B, heads, S, head_dim)


class LayerCache:
    """Keys, rotated, and values of the `tokens` tokens that one layer has read.

    Room is made ahead and doubled when full, so that adding a token copies that token only.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self.stored: Tensor | None = None  # (2, B, kv_heads, room, head_dim)

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values so far, these (B, kv_heads, S, head_dim) last."""
        end = self.tokens + k.shape[2]
        if self.stored is None or end > self.stored.shape[3]:
            self._make_room(end, k)
        self.stored[0, :, :, self.tokens : end] = k
        self.stored[1, :, :, self.tokens : end] = v
        self.tokens = end
        return self.stored[0, :, :, :end], self.stored[1, :, :, :end]

    def _make_room(self, needed: int, k: Tensor) -> None:
        batch, heads, _, head_dim = k.shape
        larger = k.new_empty(2, batch, heads, 2 * needed, head_dim)
        if self.stored is not None:
            larger[:, :, :, : self.tokens] = self.stored[:, :, :, : self.tokens]
        self.stored = larger


class FeedForward(nn.Module):
    """A gated feed-forward: GeGLU (tanh approximation) in Gemma, SwiGLU in LLaMA."""

    def __init__(
        self,
        config: DecoderConfig,
        ops: Layers,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        bare = {"bias": False, "device": device, "dtype": dtype}
        self.activation = FAMILIES[config.family].activation
        self.gate_proj = ops.Linear(config.hidden_size, config.intermediate_size, **bare)
        self.up_proj = ops.Linear(config.hidden_size, config.intermediate_size, **bare)
        self.down_proj = ops.Linear(config.intermediate_size, config.hidden_size, **bare)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.activation(self.gate_proj(x)) * self.up_proj(x))


class RMSNorm(nn.Module):
    """An RMS norm whose scale is stored less `offset`: 1 in Gemma, 0 in LLaMA."""

    def __init__(
        self,
        size: int,
        *,
        eps: float,
        offset: float,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.eps, self.offset = eps, offset
        self.weight = nn.Parameter(torch.full((size,), 1 - offset, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps, self.offset)


def rms_norm(x: Tensor, weight: Tensor, eps: float, offset: float) -> Tensor:
    """x / rms(x) * (offset + weight) over the last axis, in x's dtype; weight may be of any dtype.

    All in float32 and rounded once: in bfloat16, 1 + weight would lose weights below 0.004.
    """
    x32 = x.float()
    scale = offset + weight.to(device=x.device, dtype=torch.float32)
    return (x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + eps) * scale).to(x.dtype)


def rotation_table(
    tokens: int,
    head_dim: int,
    *,
    theta: float,
    device: torch.device | None = None,
    start: int = 0,
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angles at each position: two (tokens, head_dim / 2) float32."""
    exponent = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim
    position = torch.arange(start, start + tokens, dtype=torch.float32, device=device)
    angles = position[:, None] / theta**exponent
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn x (B, heads, S, head_dim): channel i pairs with channel i + head_dim / 2."""
    cos, sin = rotation
    first, second = x.float().chunk(2, dim=-1)
    turned = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return turned.to(x.dtype)


def causal_mask(x: Tensor, attention_mask: Tensor | None, past: int = 0) -> Tensor:
    """What is added to the scores so that a token sees itself and earlier tokens, never padding.

    (B or 1, 1, S, past + S) in the dtype of x (B, S, D), which follows `past` tokens;
    attention_mask (B, past + S) covers both. Hidden places hold a large finite number, not
    -inf: left padding leaves rows with nothing to see, where a plain softmax would give NaN and
    spread it through v.
    """
    tokens = x.shape[1]
    seen = torch.ones(tokens, past + tokens, dtype=torch.bool, device=x.device).tril(past)
    seen = seen[None, None]
    if attention_mask is not None:
        seen = seen & (attention_mask.to(x.device) != 0)[:, None, None, :]
    hidden = torch.finfo(x.dtype).min / 2  # half: adding a score must not overflow
    return torch.zeros(seen.shape, dtype=x.dtype, device=x.device).masked_fill(~seen, hidden)


def scaled_dot_product_attention(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor, scale: float
) -> Tensor:
    """`Attention` by torch itself."""
    shared = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(q, k, v, mask, scale=scale, enable_gqa=shared)


def embedding_as_head(embedding: nn.Module, state: Tensor) -> Tensor:
    """`TiedHead` by torch itself."""
    return F.linear(state, embedding.weight)
