"""Mutations of a model's tensors, for every form of file: each breaks a Case in place."""

import torch

from lumina_next.tests.support.mutations.case import NAMES

TENSOR_DTYPES = [torch.int64, torch.int8, torch.uint8, torch.bool, torch.bfloat16, torch.float64]
TENSOR_DTYPES += [torch.float16, torch.float8_e4m3fn, torch.complex64]


def sound(case):
    pass


def lost_weight(case):
    del case.weights[case.key()]


def renamed_weight(case):
    case.weights[case.chance.choice(NAMES)] = case.weights.pop(case.key())


def added_weight(case):
    shape = case.chance.choice([(), (0,), (1,), (3, 0), (2, 2), (1, 1, 1, 1)])
    dtype = case.chance.choice(TENSOR_DTYPES)
    case.weights[case.chance.choice(NAMES)] = torch.ones(shape).to(dtype)


def other_rank(case):
    tensor = case.weights[key := case.key()]
    flat, turned = tensor.flatten(), tensor.transpose(0, -1)
    case.weights[key] = case.chance.choice(
        [flat, tensor[None], flat[0], tensor[:0], tensor[..., :0], turned]
    )


def other_dtype(case):
    key = case.key()
    case.weights[key] = case.weights[key].to(case.chance.choice(TENSOR_DTYPES))


def other_dtype_everywhere(case):
    dtype = case.chance.choice(TENSOR_DTYPES)
    case.weights = {key: tensor.to(dtype) for key, tensor in case.weights.items()}


def other_size(case):
    shape = list(case.weights[key := case.key()].shape)
    if shape:
        shape[case.chance.randrange(len(shape))] += case.chance.choice([-1, 1, 7])
    case.weights[key] = torch.ones([max(0, size) for size in shape])


def quantization_of_nothing(case):
    layer = case.key().rpartition(".")[0]
    values = [b"", b"{", b"{}", b'{"format": 3}', b'{"format": "nvfp4"}', b'{"format": "x"}']
    text = case.chance.choice(values)
    case.weights[f"{layer}.comfy_quant"] = torch.tensor(list(text), dtype=torch.uint8)
    if case.chance.random() < 0.5:
        case.weights[f"{layer}.weight_scale"] = torch.ones(case.chance.choice([(), (0,), (3,)]))


TENSORS = [sound, lost_weight, renamed_weight, added_weight, other_rank, other_dtype]
TENSORS += [other_dtype_everywhere, other_size, quantization_of_nothing]
