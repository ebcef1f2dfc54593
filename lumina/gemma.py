"""The Gemma-1 decoder as a text encoder: tokens in, one of its hidden states out.

Attribute names are the Hugging Face checkpoint's without the `model.` prefix. B batch, S tokens,
D width. Gemma (arXiv:2403.08295); every state agrees with transformers' GemmaModel.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RELEASED_HEAD_DIM = 256


class Layers(Protocol):
    """Where the layers come from: torch.nn, or a host's classes of the same names."""

    Linear: type[nn.Module]
    Embedding: type[nn.Module]


class Attention(Protocol):
    """Softmax attention of q (B, heads, S, head_dim) over k, v (B, kv_heads, S, head_dim).

    mask (B, 1, S, S) is added to the scores, in q's dtype. Returns (B, heads, S, head_dim).
    """

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor, scale: float
    ) -> Tensor: ...


@dataclass(frozen=True)
class GemmaConfig:
    """Sizes of a Gemma-1 decoder. Raises ValueError for sizes that do not fit together."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    norm_eps: float = 1e-6
    rope_theta: float = 1e4

    def __post_init__(self) -> None:
        if self.kv_heads < 1 or self.heads % self.kv_heads:
            raise ValueError(
                f"Gemma needs heads to be a multiple of kv_heads, got {self.heads}, {self.kv_heads}"
            )
        if self.head_dim < 2 or self.head_dim % 2:
            raise ValueError(f"Gemma rotates pairs, so head_dim must be even, got {self.head_dim}")


class Gemma(nn.Module):
    """The decoder stack of Gemma-1, on layers and an attention that a host may hand in.

    ops: source of Linear and Embedding. norm: class built as norm(size, eps=, device=, dtype=);
    a host whose layers cast weights at use subclasses RMSNorm. Activations keep the dtype of the
    embeddings, so weights of another dtype need such layers.
    """

    def __init__(
        self,
        config: GemmaConfig,
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
        self.norm = norm(config.hidden_size, eps=config.norm_eps, **where)

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
            raise ValueError("Gemma takes either input_ids or embeds, and exactly one of them")
        embeds = self.embed(input_ids) if embeds is None else embeds
        return self.hidden_states(embeds, attention_mask, (hidden_state,))[0]

    def embed(self, input_ids: Tensor) -> Tensor:
        """Token embeddings (B, S, D), before the sqrt(D) that the decoder multiplies them by."""
        return self.embed_tokens(input_ids)

    def hidden_states(
        self, embeds: Tensor, attention_mask: Tensor | None, indices: Iterable[int]
    ) -> tuple[Tensor, ...]:
        """Several hidden states of one run, in the order asked; numbering as in `forward`."""
        wanted = [self._position(index) for index in indices]
        x = embeds * self.config.hidden_size**0.5
        mask = causal_mask(x, attention_mask)
        rotation = rotation_table(
            x.shape[1], self.config.head_dim, theta=self.config.rope_theta, device=x.device
        )
        found = {0: x}
        for depth, layer in enumerate(self.layers[: max(wanted)], start=1):
            x = layer(x, mask, rotation)
            found[depth] = x if depth in wanted else None
        if self.config.layers in wanted:
            found[self.config.layers] = self.norm(x)
        return tuple(found[depth] for depth in wanted)

    def _position(self, index: int) -> int:
        count = self.config.layers + 1
        if not -count <= index < count:
            raise ValueError(
                f"hidden state {index} does not exist: a Gemma of {self.config.layers} layers has "
                f"{count}, so choose from {-count} (embeddings) to -1 (output)"
            )
        return index % count


class DecoderLayer(nn.Module):
    """Self-attention, then a gated feed-forward, each normalised before and added after."""

    def __init__(
        self,
        config: GemmaConfig,
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
        self.input_layernorm = norm(config.hidden_size, eps=config.norm_eps, **where)
        self.post_attention_layernorm = norm(config.hidden_size, eps=config.norm_eps, **where)

    def forward(self, x: Tensor, mask: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), mask, rotation)
        return x + self.mlp(self.post_attention_layernorm(x))


class SelfAttention(nn.Module):
    """Rotary attention whose query heads share kv_heads keys and values (one, at 2B)."""

    def __init__(
        self,
        config: GemmaConfig,
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

    def forward(self, x: Tensor, mask: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        q = rotate(self._heads(self.q_proj(x)), rotation)
        k = rotate(self._heads(self.k_proj(x)), rotation)
        v = self._heads(self.v_proj(x))
        mixed = self.attention(q, k, v, mask=mask, scale=self.head_dim**-0.5)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # (B, heads, S, head_dim)


class FeedForward(nn.Module):
    """GeGLU with the tanh approximation of GELU."""

    def __init__(
        self,
        config: GemmaConfig,
        ops: Layers,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        bare = {"bias": False, "device": device, "dtype": dtype}
        self.gate_proj = ops.Linear(config.hidden_size, config.intermediate_size, **bare)
        self.up_proj = ops.Linear(config.hidden_size, config.intermediate_size, **bare)
        self.down_proj = ops.Linear(config.intermediate_size, config.hidden_size, **bare)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.gelu(self.gate_proj(x), approximate="tanh") * self.up_proj(x))


class RMSNorm(nn.Module):
    """Gemma's RMS norm: the stored weight is the scale minus one."""

    def __init__(
        self,
        size: int,
        *,
        eps: float,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(size, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / rms(x) * (1 + weight) over the last axis, in x's dtype; weight may be of any dtype.

    All in float32 and rounded once: in bfloat16, 1 + weight would lose weights below 0.004.
    """
    x32 = x.float()
    scale = 1 + weight.to(device=x.device, dtype=torch.float32)
    return (x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + eps) * scale).to(x.dtype)


def rotation_table(
    tokens: int, head_dim: int, *, theta: float, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every position's angles: two (tokens, head_dim / 2) float32."""
    exponent = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim
    position = torch.arange(tokens, dtype=torch.float32, device=device)
    angles = position[:, None] / theta**exponent
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn x (B, heads, S, head_dim): channel i pairs with channel i + head_dim / 2."""
    cos, sin = rotation
    first, second = x.float().chunk(2, dim=-1)
    turned = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return turned.to(x.dtype)


def causal_mask(x: Tensor, attention_mask: Tensor | None) -> Tensor:
    """What is added to the scores so that a token sees itself and earlier tokens, never padding.

    (B or 1, 1, S, S) in the dtype of x (B, S, D). Hidden places hold a large finite number, not
    -inf: left padding leaves rows with nothing to see, where a plain softmax would give NaN and
    spread it through v.
    """
    tokens = x.shape[1]
    seen = torch.ones(tokens, tokens, dtype=torch.bool, device=x.device).tril()[None, None]
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


def load_gemma(
    state_dict: Mapping[str, Tensor],
    *,
    head_dim: int | None = None,
    dtype: torch.dtype | None = None,
    source: str = "The text encoder file",
) -> Gemma:
    """A Gemma on torch's layers holding the file's own tensors, ready to run.

    dtype None keeps the file's. Raises ValueError as `to_native` does, or RuntimeError naming a
    tensor of the wrong shape.
    """
    native = to_native(state_dict, source=source)
    # Built without memory: initialising two billion weights only to replace them takes a minute.
    model = Gemma(config_from_state_dict(native, head_dim), device="meta")
    model.load_state_dict(native, assign=True)
    return model.to(dtype=dtype).eval().requires_grad_(False)


def config_from_state_dict(
    state_dict: Mapping[str, Tensor], head_dim: int | None = None
) -> GemmaConfig:
    """The sizes a Gemma-1 file was saved with, read from its tensors' shapes.

    head_dim is not in the shapes. Unless given it is 256, as in every released Gemma-1, where
    that divides the rows of k_proj; otherwise those rows are taken as the one key head.
    Raises ValueError as `to_native` does, or if the projections are no multiple of head_dim.
    """
    native = to_native(state_dict)
    vocab_size, hidden_size = native["embed_tokens.weight"].shape
    q_rows = len(native["layers.0.self_attn.q_proj.weight"])
    k_rows = len(native["layers.0.self_attn.k_proj.weight"])
    if head_dim is None:
        head_dim = RELEASED_HEAD_DIM if k_rows % RELEASED_HEAD_DIM == 0 else k_rows
    if q_rows % head_dim or k_rows % head_dim:
        raise ValueError(
            f"The text encoder's q_proj has {q_rows} rows and its k_proj {k_rows}: both must be "
            f"multiples of the head size {head_dim}; pass the model's own head_dim"
        )
    return GemmaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=len(native["layers.0.mlp.gate_proj.weight"]),
        layers=_layer_count(native),
        heads=q_rows // head_dim,
        kv_heads=k_rows // head_dim,
        head_dim=head_dim,
    )


def to_native(
    state_dict: Mapping[str, Tensor], *, source: str = "The text encoder file"
) -> dict[str, Tensor]:
    """The decoder's tensors under this module's names; they are not copied.

    Takes files with and without the `model.` prefix. Leaves out the output head, which is the
    embedding again, stored rotary tables and whatever has no dot in its name (a tokenizer kept
    with the weights). Raises ValueError that names `source` and the missing or unknown key.
    """
    native = {key.removeprefix("model."): tensor for key, tensor in state_dict.items()}
    native = {key: tensor for key, tensor in native.items() if not _is_left_out(key)}
    found = describe(native)
    if found != "Gemma-1":
        raise ValueError(
            f"{source} is not a Gemma-1 text encoder: it looks like {found}. Lumina-Next was "
            "trained with google/gemma-2b (the first Gemma, 2 billion parameters); choose that."
        )
    modules = _module_names(_layer_count(native))
    missing = [name for name in modules if f"{name}.weight" not in native]
    if missing:
        raise ValueError(
            f'{source} is incomplete: "{missing[0]}.weight" is missing, with {len(missing) - 1} '
            f"more of {len(modules)}. If the model comes in several files, all of them are needed; "
            "if it is one file, download it again."
        )
    known = set(modules)
    # Only the module is compared: quantised files keep scales beside a weight.
    unknown = [key for key in native if key.rpartition(".")[0] not in known]
    if unknown:
        raise ValueError(f'{source} is not a plain Gemma-1: unknown key "{unknown[0]}".')
    return native


def describe(state_dict: Mapping[str, Tensor]) -> str:
    """Which text model a file holds, in words for an error text; "Gemma-1" for ours."""
    keys = {key.removeprefix("model.") for key in state_dict}
    for pattern, name in FAMILIES.items():
        if any(re.search(pattern, key) for key in keys):
            return name
    if not any(re.match(r"embed_tokens\.|layers\.\d+\.|norm\.", key) for key in keys):
        return f'something else (its first key is "{min(keys)}")' if keys else "an empty file"
    embedding = state_dict.get("embed_tokens.weight", state_dict.get("model.embed_tokens.weight"))
    # The tensors of LLaMA carry the same names; only the vocabulary tells: Gemma's is 256,000.
    if embedding is not None and 32_000 <= len(embedding) < 256_000:
        return f"LLaMA or a relative of it (a vocabulary of {len(embedding):,} tokens)"
    return "Gemma-1"


# Tried in this order: Gemma-3 has Gemma-2's layers too.
FAMILIES = {
    r"(^|\.)(x_embedder|patch_embedder)\.": "a diffusion model, not its text encoder",
    r"^(vision_tower|language_model|multi_modal_projector)\.": "a model for pictures and text",
    r"self_attn\.q_norm\.weight$": "Gemma-3 or Qwen3 (it normalises queries)",
    r"\.pre_feedforward_layernorm\.": "Gemma-2 (it normalises before the feed-forward)",
    r"self_attn\.q_proj\.bias$": "Qwen2 (its projections have a bias)",
    r"^encoder\.block\.": "T5",
    r"text_model\.": "CLIP",
}


def _is_left_out(key: str) -> bool:
    return key == "lm_head.weight" or key.endswith("rotary_emb.inv_freq") or "." not in key


def _layer_count(native: Mapping[str, Tensor]) -> int:
    numbers = [re.match(r"layers\.(\d+)\.", key) for key in native]
    return max((int(number[1]) + 1 for number in numbers if number), default=1)


def _module_names(layers: int) -> list[str]:
    inside = [f"self_attn.{name}_proj" for name in "qkvo"]
    inside += [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
    inside += ["input_layernorm", "post_attention_layernorm"]
    stack = [f"layers.{layer}.{name}" for layer in range(layers) for name in inside]
    return ["embed_tokens", *stack, "norm"]
