"""Parts of a decoder's layers by themselves."""

import pytest
import torch

from lumina_next.lumina.text_encoders.layers import LayerCache
from lumina_next.lumina.text_encoders.weights import load_decoder
from lumina_next.tests.support.decoders import tiny_file
from lumina_next.tests.support.token_rows import RIGHT_PADDED, TOKENS


def test_room_is_made_seldom_and_keeps_what_was_read() -> None:
    cache, read = LayerCache(), torch.randn(2, 1, 2, 200, 4)
    rooms = []
    for i in range(200):
        keys, values = cache.extend(*read[:, :, :, i : i + 1])
        rooms += [cache.stored] if not rooms or cache.stored is not rooms[-1] else []
        assert torch.equal(keys, read[0, :, :, : i + 1])
        assert torch.equal(values, read[1, :, :, : i + 1])
    assert len(rooms) <= 8  # each twice as large as the one before


@pytest.mark.parametrize("dtype", [torch.bool, torch.long, torch.float32, torch.float16])
def test_mask_may_be_of_any_type(dtype: torch.dtype) -> None:
    model = load_decoder(tiny_file())
    assert torch.equal(model(TOKENS, RIGHT_PADDED.to(dtype)), model(TOKENS, RIGHT_PADDED))
