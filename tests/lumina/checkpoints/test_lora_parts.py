"""Parts of a LoRA's change: by shapes alone, those that fit a weight are told from the others."""

import pytest
import torch

from lumina_next.lumina.checkpoints import lora_parts

WEIGHT = torch.Size((6, 8))


def parts(**shapes):
    names = {"up": "lora_up.weight", "down": "lora_down.weight"}
    names |= {name: f"{name}.weight" for name in ("a1", "a2", "b1", "b2")}
    return {names.get(name, name): torch.empty(shape) for name, shape in shapes.items()}


FIT = {
    "LoRA": parts(up=(6, 2), down=(2, 8), alpha=()),
    "LoRA of a 1 x 1 convolution": parts(up=(6, 2, 1, 1), down=(2, 8, 1, 1)),
    "DoRA": parts(up=(6, 2), down=(2, 8), dora_scale=(6, 1)),
    "LoHa": parts(hada_w1_a=(6, 2), hada_w1_b=(2, 8), hada_w2_a=(6, 2), hada_w2_b=(2, 8)),
    "LoKr": parts(lokr_w1=(2, 2), lokr_w2=(3, 4)),
    "LoKr of products": parts(lokr_w1_a=(2, 1), lokr_w1_b=(1, 2), lokr_w2_a=(3, 1),
                              lokr_w2_b=(1, 4)),
    "GLoRA": parts(a1=(8, 2), a2=(2, 8), b1=(6, 2), b2=(2, 8)),
    "older GLoRA": parts(a1=(2, 8), a2=(8, 2), b1=(2, 8), b2=(6, 2)),
    "OFT": parts(oft_blocks=(2, 3, 3)),
    "BOFT": parts(oft_blocks=(2, 3, 2, 2), alpha=(1,), rescale=(6, 1)),
    "difference": parts(diff=(6, 8), diff_b=(6,)),
    "new value": parts(set_weight=(6, 8)),
}  # fmt: skip
DO_NOT = {
    "LoRA turned round": parts(up=(8, 2), down=(2, 6)),
    "LoRA of two ranks": parts(up=(6, 2), down=(3, 8)),
    "LoRA of numbers": parts(up=(), down=()),
    "DoRA": parts(up=(6, 2), down=(2, 8), dora_scale=(7,)),
    "LoHa": parts(hada_w1_a=(6, 2), hada_w1_b=(2, 8), hada_w2_a=(6, 2), hada_w2_b=(2, 9)),
    "LoKr": parts(lokr_w1=(3, 2), lokr_w2=(3, 4)),
    "LoKr of four axes": parts(lokr_w1=(2, 2), lokr_w2=(3, 4, 1, 1)),
    "GLoRA": parts(a1=(9, 2), a2=(2, 9), b1=(6, 2), b2=(2, 8)),
    "OFT": parts(oft_blocks=(2, 4, 4)),
    "OFT that is not square": parts(oft_blocks=(2, 3, 4)),
    "OFT of one axis": parts(oft_blocks=(6,)),
    "BOFT without alpha": parts(oft_blocks=(2, 3, 2, 2)),
    "difference": parts(diff=(8, 6)),
    "bias": parts(diff=(6, 8), diff_b=(7,)),
    "alpha of two": parts(up=(6, 2), down=(2, 8), alpha=(2,)),
}


@pytest.mark.parametrize("kind", FIT)
def test_change_of_the_weights_size_fits(kind):
    assert lora_parts.missing(FIT[kind]) is None
    assert lora_parts.fit(FIT[kind], WEIGHT, torch.Size((6,)))


@pytest.mark.parametrize("kind", DO_NOT)
def test_change_of_another_size_does_not_fit(kind):
    assert not lora_parts.fit(DO_NOT[kind], WEIGHT, torch.Size((6,)))


def test_change_of_a_bias_does_not_fit_where_there_is_none():
    assert not lora_parts.fit(FIT["difference"], WEIGHT, None)


def test_vector_takes_a_change_of_one_column():
    assert lora_parts.fit(parts(up=(6, 2), down=(2, 1)), torch.Size((6,)), None)


@pytest.mark.parametrize(
    "name", ["lora_up.weight", "hada_w2_a", "lokr_w2", "lokr_w1_b", "b1.weight"]
)
def test_half_of_a_change_lacks_the_other(name):
    kinds = [kind for kind in FIT.values() if name in kind]
    for kind in kinds:
        without = {key: part for key, part in kind.items() if key != name}
        assert lora_parts.missing(without) == name
