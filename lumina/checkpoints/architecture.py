"""A network's architecture from the shapes of its weights, and the strict check of them all."""

from functools import partial

from ..config import PATCH_SIZE, DiTConfig, FlagDiTConfig, NextDiTConfig
from ..model.backbone import DiT
from ..model.flag_dit import FlagDiT
from ..model.next_dit import NextDiT
from . import strict
from .key_names import StateDict, layer_count, to_file_keys

NETWORKS: dict[type[DiTConfig], type[DiT]] = {NextDiTConfig: NextDiT, FlagDiTConfig: FlagDiT}
LINE_END = "eol_token"  # which only a Flag-DiT has


def config_from_state_dict(native: StateDict, source: str = "The checkpoint") -> DiTConfig:
    """The architecture, from the names and shapes of weights under released names.

    Reads first axes and biases where it can: quantized weights are packed along the second.
    Raises ValueError naming a weight that is missing, or sizes that contradict each other.
    """
    architecture = FlagDiTConfig if LINE_END in native else NextDiTConfig
    size = partial(strict.size, native, source=source)
    columns = size("x_embedder.weight", axis=1)
    if strict.is_four_bit(native["x_embedder.weight"]):
        columns *= 2
    rows = size("final_layer.linear.bias")
    if rows not in (columns, 2 * columns):
        raise ValueError(
            f"{source} reads {columns} numbers for each patch and writes {rows}; a "
            f"{architecture.network} writes as many as it reads, or twice as many."
        )
    dim, heads = size("x_embedder.bias"), size("layers.0.attention.gate")
    try:
        return architecture(
            dim=dim,
            layers=layer_count(native, "layers.{}.", source),
            heads=heads,
            kv_heads=size("layers.0.attention.wk.weight") * heads // dim,
            caption_dim=size("cap_embedder.0.weight"),
            ffn_dim=size("layers.0.feed_forward.w1.weight"),
            qk_norm=any(".attention.q_norm." in key for key in native),
            in_channels=columns // PATCH_SIZE**2,
            learn_sigma=rows == 2 * columns,
        )
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(
            f"{source} is not a {architecture.network} that can run: {error}."
        ) from error


def checked_config(native: StateDict, source: str = "The checkpoint") -> DiTConfig:
    """The architecture, after a strict check of all weights, which have released names.

    Raises ValueError as `config_from_state_dict` and `strict.check` do.
    """
    config = config_from_state_dict(native, source)
    expected = {key: weight.shape for key, weight in to_file_keys(_described(config)).items()}
    strict.check(native, expected, source, network_name=config.network)
    return config


def shapes(config: DiTConfig) -> strict.Shapes:
    """Name, as in the network's state_dict(), and shape of each weight."""
    return {key: weight.shape for key, weight in _described(config).items()}


def _described(config: DiTConfig) -> StateDict:
    """The network's state_dict() on device "meta"."""
    return NETWORKS[type(config)](config, device="meta").state_dict()
