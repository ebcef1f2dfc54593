"""The norm of Gemma and LLaMA."""

import pytest
import torch
from torch.testing import assert_close

from lumina_next.lumina.model.layers import offset_rms_norm


def test_norm_weight_is_an_offset_from_one() -> None:
    x = torch.tensor([[3.0, -4.0]])
    assert_close(offset_rms_norm(x, torch.zeros(2), 0.0, 1.0), x / 12.5**0.5)
    assert_close(
        offset_rms_norm(x, torch.tensor([1.0, -1.0]), 0.0, 1.0),
        torch.tensor([[6 / 12.5**0.5, 0.0]]),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("weight_dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_norm_rounds_once(dtype: torch.dtype, weight_dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(50, 64, generator=generator).to(dtype)
    # Small enough that 1 + weight in half precision would drop all or most of it.
    weight = (torch.randn(64, generator=generator) * 1e-3).to(weight_dtype)
    wide = x.double()
    exact = wide / (wide.square().mean(-1, keepdim=True) + 1e-6).sqrt() * (1 + weight.double())
    found = offset_rms_norm(x, weight, 1e-6, 1.0)
    assert found.dtype == dtype
    half_step = torch.finfo(dtype).eps / 2
    slack = 4 * torch.finfo(torch.float32).eps  # of the float32 arithmetic itself
    assert ((found.double() - exact).abs() / exact.abs()).max() < half_step + slack
