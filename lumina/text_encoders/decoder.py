"""The decoder of Gemma-1 and LLaMA-2 as a text encoder: tokens in, one of its hidden states out.

Its output head scores the next token, and with a cache of keys and values it continues a text.
`FAMILIES` has the four differences between the two. Attribute names are the Hugging Face
checkpoint's without the `model.` prefix. B batch, S tokens, D width. Gemma (arXiv:2403.08295),
Llama 2 (arXiv:2307.09288); every state agrees with transformers' GemmaModel and LlamaModel.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from .. import rope
from ..model.layers import (
    Attention,
    LayerKit,
    OffsetRMSNorm,
    Operations,
    TiedHead,
    embedding_as_head,
    scaled_dot_product_attention,
)
from .config import FAMILIES, DecoderConfig
from .layers import DecoderLayer, LayerCache, causal_mask


class Decoder(nn.Module):
    """The decoder stack; its last norm and, where the weights have one, its output head.

    The keyword arguments are those of a `LayerKit`. Activations keep the dtype of the embeddings,
    so weights of another dtype need layers that cast them at use.
    """

    def __init__(
        self,
        config: DecoderConfig,
        *,
        ops: Operations = nn,
        attention: Attention = scaled_dot_product_attention,
        norm: type[OffsetRMSNorm] = OffsetRMSNorm,
        tied_head: TiedHead = embedding_as_head,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        kit = LayerKit(
            ops=ops,
            attention=attention,
            norm=norm,
            tied_head=tied_head,
            device=device,
            dtype=dtype,
        )
        self.config, self.tied_head = config, kit.tied_head
        self.embed_tokens = kit.embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config, kit) for _ in range(config.layers))
        self.norm = kit.offset_rms_norm(config.hidden_size, config.norm_eps, config.norm_offset)
        if config.has_output_head:
            self.lm_head = kit.linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        embeds: Tensor | None = None,
        hidden_state: int = -2,
    ) -> Tensor:
        """One hidden state (B, S, D), numbered as transformers' `hidden_states`.

        -1 is the normalized output; all others are inputs of layers, not normalized: -2 of the last
        layer, 0 the scaled embeddings. Later layers do not run. input_ids (B, S), or embeds
        (B, S, D) as `embed` returns them. attention_mask (B, S): non-zero marks a token.
        """
        if input_ids is not None and embeds is None:
            embeds = self.embed(input_ids)
        elif input_ids is not None or embeds is None:
            raise ValueError("A decoder takes either input_ids or embeds, and exactly one of them")
        return self.hidden_states(embeds, attention_mask, (hidden_state,))[0]

    def embed(self, input_ids: Tensor) -> Tensor:
        """Token embeddings (B, S, D), before the factor sqrt(D) of some families."""
        return self.embed_tokens(input_ids)

    def logits(self, state: Tensor) -> Tensor:
        """Scores of the next token (..., vocab_size), from normalized states (..., D).

        Raises ValueError for weights that came without an output head.
        """
        family = FAMILIES[self.config.family]
        if self.config.has_output_head:
            return self.lm_head(state)
        if family.ties_head or self.config.ties_head:
            return self.tied_head(self.embed_tokens, state)
        raise ValueError(
            f"This {family.name} reads prompts but cannot write: its file was saved without the "
            'output head, "lm_head.weight". Load the files that the model was published with.'
        )

    def new_cache(self) -> list[LayerCache]:
        """An empty cache, in which `hidden_states` keeps the keys and values of one text."""
        return [LayerCache() for _ in self.layers]

    def hidden_states(
        self,
        embeds: Tensor,
        attention_mask: Tensor | None,
        indices: Iterable[int],
        cache: Sequence[LayerCache] | None = None,
    ) -> tuple[Tensor, ...]:
        """Hidden states of one run, in the order of `indices`; numbered as in `forward`.

        With a cache, embeds follow the tokens in it and are added to it; attention_mask
        (B, past + S) then covers both.
        """
        depths = [self._depth(index) for index in indices]
        past = cache[0].tokens if cache else 0
        scaled = FAMILIES[self.config.family].scales_embeddings
        x = embeds * self.config.hidden_size**0.5 if scaled else embeds
        mask = causal_mask(x, attention_mask, past)
        rotation = self._rotation(x, past)
        states = {0: x}
        # With a cache all layers run, since a later call attends to these tokens in each.
        last = self.config.layers if cache else max(depths)
        for depth, layer in enumerate(self.layers[:last], start=1):
            x = layer(x, mask, rotation, cache[depth - 1] if cache else None)
            states[depth] = x if depth in depths else None
        if self.config.layers in depths:
            states[self.config.layers] = self.norm(x)
        return tuple(states[depth] for depth in depths)

    def _rotation(self, x: Tensor, past: int) -> Tensor:
        """RoPE table, on one axis, of the tokens x (B, S, D) after `past` others."""
        head_dim, theta = self.config.head_dim, self.config.rope_theta
        frequencies = rope.frequencies(head_dim, axes=1, theta=theta, device=x.device)
        return rope.rotation_table(
            rope.positions(x.shape[1], start=past, device=x.device), [frequencies]
        )

    def _depth(self, index: int) -> int:
        count = self.config.layers + 1
        if not -count <= index < count:
            raise ValueError(
                f"hidden state {index} does not exist: a decoder of {self.config.layers} layers "
                f"has {count}, so choose from {-count} (embeddings) to -1 (output)"
            )
        return index % count
