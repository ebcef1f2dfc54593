"""Which tensors of a file belong to a text model that transformers has built."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from transformers import PreTrainedModel

from ....lumina.checkpoints import strict

_HEADS = ("lm_head.", "pooler.")  # parts around the layers that are saved beside them
_SCALES = {"comfy_quant", "weight_scale", "weight_scale_2", "input_scale", "pre_quant_scale"}
_OLD_SCALES = {"weight_scale", "input_scale", "scale_weight", "scale_input"}


@dataclass(frozen=True)
class TextModel:
    """The part of a model that reads text, as transformers builds it, still without weights.

    place: where that part is in the whole, "encoder." or "". shared: under its own names, the
    whole's other names of a weight that it uses more than once.
    """

    network: PreTrainedModel
    place: str
    shared: Mapping[str, tuple[str, ...]]

    @property
    def kind(self) -> str:
        return self.network.config.model_type

    @property
    def vocabulary(self) -> int:
        """How many tokens it has embeddings for."""
        return self.network.get_input_embeddings().num_embeddings

    @property
    def width(self) -> int:
        """Features of one embedding."""
        return self.network.get_input_embeddings().embedding_dim

    def to_native(self, weights: Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
        """Its weights out of a file, under its own names; they are not copied.

        Takes any prefix that a larger model around it leads to, and leaves out all that is not
        under it, such as a picture encoder, and output heads. Tensors may be on device "meta", as
        read from a header. Raises ValueError that names `source` and a key that is missing,
        unknown or of another shape.
        """
        shapes = strict.shapes_of(self.network)
        prefix = _prefix(weights, shapes)
        if prefix is None:
            raise ValueError(
                f'{source} is not the "{self.kind}" model of its config.json: it has no weight '
                f'such as "{next(iter(shapes))}". Both must be of the same model.'
            )
        whole = prefix.removesuffix(self.place)
        names = {
            key: [prefix + key, *(whole + other for other in self.shared.get(key, ()))]
            for key in shapes
        }
        native = {
            key: weights[name] for key, known in names.items() for name in known if name in weights
        }
        strict.check(
            {prefix + key: tensor for key, tensor in native.items()},
            {prefix + key: shape for key, shape in shapes.items()},
            source,
            network_name=f'"{self.kind}" model',
            shapes_from="its config.json",
            advice=f"{strict.GET_ALL} If config.json is another model's, choose its own.",
        )
        rest = weights.keys() - {name for known in names.values() for name in known}
        inside = {key.removeprefix(prefix): weights[key] for key in rest if key.startswith(prefix)}
        return native | self._scales(inside, prefix, source)

    def _scales(self, tensors: Mapping[str, Tensor], prefix: str, source: str) -> dict[str, Tensor]:
        """Of tensors that the network does not ask for, those of layers the host quantized."""
        layers = dict(self.network.named_modules())
        computed = {name for name, _ in self.network.named_buffers()}
        scales = {}
        for key, tensor in tensors.items():
            layer, _, name = key.rpartition(".")
            is_table = key in computed or key.endswith("rotary_emb.inv_freq")
            if not layer or key.startswith(_HEADS) or is_table:
                continue
            is_marked = name in _SCALES and f"{layer}.comfy_quant" in tensors
            # Older files carry the mark in their metadata, which a header's tensors are without.
            is_marked |= name in _OLD_SCALES and tensor.is_meta
            if not is_marked or not self._may_be_quantized(layers.get(layer)):
                raise ValueError(
                    f'{source} has "{prefix}{key}", which is no part of the "{self.kind}" model '
                    "that its config.json describes. Choose the config.json of the same model; if "
                    "the weights are quantized, a file in one of ComfyUI's formats."
                )
            scales[key] = tensor
        return scales

    def _may_be_quantized(self, layer: nn.Module | None) -> bool:
        is_plain = type(layer) in (nn.Linear, nn.Embedding)
        return is_plain or layer is self.network.get_input_embeddings()


def _prefix(keys: Iterable[str], wanted: Mapping[str, object]) -> str | None:
    """What most keys have before a wanted name; None if no key ends with one."""
    found: Counter[str] = Counter()
    for key in keys:
        words = key.split(".")
        for start in range(len(words)):
            if ".".join(words[start:]) in wanted:
                found["".join(word + "." for word in words[:start])] += 1
    return found.most_common(1)[0][0] if found else None
