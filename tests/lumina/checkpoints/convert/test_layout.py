"""What is left out of a packed file, and what other types make of its numbers."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from lumina_next.lumina.checkpoints.convert import pack as convert_pack
from lumina_next.lumina.checkpoints.convert.pack import pack
from lumina_next.tests.support.encoder_folders import (
    CONFIG,
    EMBEDDING,
    HEAD,
    NORM,
    WEIGHTS,
    assert_packed,
    metadata_of,
    write_folder,
)

# --- the output head, which is often the embedding again


@pytest.mark.parametrize("form", ["safetensors", "bin"])
@pytest.mark.parametrize(
    "tied, head, is_kept",
    [
        (True, WEIGHTS[EMBEDDING], False),
        (None, WEIGHTS[EMBEDDING], False),
        (False, WEIGHTS[EMBEDDING], True),
        (True, -WEIGHTS[EMBEDDING], True),
        (True, WEIGHTS[EMBEDDING].bfloat16(), True),
        (True, WEIGHTS[EMBEDDING].view(8, 50), True),
    ],
)
def test_head_is_left_out_where_it_is_the_embedding(
    tmp_path, packed_file, small_pieces, form, tied, head, is_kept
):
    config = CONFIG if tied is None else CONFIG | {"tie_word_embeddings": tied}
    shards = [WEIGHTS, {HEAD: head.clone()}]
    pack(write_folder(tmp_path / "tied", shards, form, config), packed_file)
    assert_packed(packed_file, WEIGHTS | {HEAD: head} if is_kept else WEIGHTS)
    said = json.loads(metadata_of(packed_file)["config"])
    assert said == (config if is_kept else config | {"tie_word_embeddings": True})


def test_second_embedding_of_t5_is_left_out(tmp_path, packed_file):
    weights = {"shared.weight": WEIGHTS[EMBEDDING], "encoder.embed_tokens.weight": torch.ones(2)}
    twice = weights | {"encoder.embed_tokens.weight": WEIGHTS[EMBEDDING]}
    config = {"model_type": "t5", "tie_word_embeddings": False}
    pack(write_folder(tmp_path / "t5", [twice], "bin", config), packed_file)
    assert_packed(packed_file, {"shared.weight": WEIGHTS[EMBEDDING]})
    pack(write_folder(tmp_path / "odd", [weights], "bin", config), packed_file, overwrite=True)
    assert_packed(packed_file, weights)


# --- other types


def test_number_too_large_for_float16_is_an_error(tmp_path, packed_file):
    weights = {EMBEDDING: WEIGHTS[EMBEDDING].clone(), NORM: WEIGHTS[NORM] + 1e6}
    weights[EMBEDDING][30, 3] = -70_000
    folder = write_folder(tmp_path / "large", [weights])
    with pytest.raises(ValueError, match=rf'"{EMBEDDING}" holds 7e\+04.*bfloat16'):
        pack(folder, packed_file, "float16")
    assert os.listdir(tmp_path) == ["large"]
    pack(folder, packed_file, "bfloat16")


def test_number_too_large_for_fp8_is_clamped_and_counted(tmp_path, packed_file, small_pieces):
    weights = {EMBEDDING: WEIGHTS[EMBEDDING].clone(), NORM: WEIGHTS[NORM] + 1e6}
    weights[EMBEDDING][30, 3:5] = torch.tensor([-449.0, 1e9])
    packed = pack(write_folder(tmp_path / "large", [weights]), packed_file, "float8_e4m3fn")
    found = load_file(packed_file)
    assert found[EMBEDDING][30, 3:5].float().tolist() == [-448, 448]
    assert_close(found[NORM], weights[NORM], rtol=0, atol=0)
    assert dict(+packed.clamped) == {EMBEDDING: 2}
    assert f"2 numbers of {EMBEDDING} were beyond" in convert_pack.describe(packed)


def test_position_bias_of_t5_keeps_its_type(tmp_path, packed_file):
    name = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    bias = 20 * torch.randn(32, 3, generator=torch.Generator().manual_seed(1))
    pack(write_folder(tmp_path / "t5", [{name: bias}]), packed_file, "float8_e4m3fn")
    assert_packed(packed_file, {name: bias})


def test_infinity_stays_infinity_in_float16(tmp_path, packed_file):
    weights = {"mask": torch.tensor([[0.0, -torch.inf, torch.nan]])}
    pack(write_folder(tmp_path / "mask", [weights]), packed_file, "float16")
    assert_packed(packed_file, {"mask": weights["mask"].half()})


def test_quantized_model_keeps_its_types(tmp_path, packed_file):
    config = CONFIG | {"quantization_config": {"quant_method": "gptq"}}
    folder = write_folder(tmp_path / "gptq", [WEIGHTS], config=config)
    with pytest.raises(ValueError, match="gptq is quantized already"):
        pack(folder, packed_file, "float16")
    assert pack(folder, packed_file).is_new


def test_name_in_two_files_is_refused(tmp_path, packed_file):
    folder = write_folder(tmp_path / "twice", [WEIGHTS, {NORM: torch.ones(3)}])
    with pytest.raises(ValueError, match=rf'"{NORM}" is in model-00001.* and in model-00002'):
        pack(folder, packed_file)
