"""Sizes of a decoder that do not fit."""

import pytest

from lumina_next.lumina.text_encoders.config import DecoderConfig


@pytest.mark.parametrize(
    "sizes",
    [{"heads": 4, "kv_heads": 3, "head_dim": 16}, {"heads": 4, "kv_heads": 1, "head_dim": 15}],
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="text encoder"):
        DecoderConfig("gemma", 61, 32, 48, layers=1, **sizes)
