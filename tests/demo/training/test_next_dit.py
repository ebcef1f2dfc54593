"""The training script on a tiny pair of models and random latents: steps, resuming, saving."""

import functools
import importlib
import itertools
import random
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file


@pytest.fixture
def train(monkeypatch):
    train = importlib.import_module("demo.training.next_dit")
    monkeypatch.setattr(torch, "compile", lambda network, **options: network)
    tiny = train.NextDiTConfig(dim=24, layers=1, heads=2, kv_heads=1, caption_dim=16, ffn_dim=32)
    monkeypatch.setattr(train, "DIT", tiny)
    gemma = replace(
        train.gemma_config(8), hidden_size=16, intermediate_size=16, layers=2, heads=2, head_dim=8
    )
    monkeypatch.setattr(train, "gemma_config", lambda size: replace(gemma, vocab_size=size))
    return train


@pytest.fixture
def spiece(train):
    return trained_tokenizer(train.train_tokenizer)


@functools.cache
def trained_tokenizer(train_tokenizer):
    return train_tokenizer(sentences=300)


def trainer(train, spiece, folder):
    torch.manual_seed(0)
    pair = train.Pair(len(train.Tokenizer(spiece)))
    return train.Trainer(pair, 1e-2, seconds=60, checkpoint=folder / "pair.pt")


def data(train, spiece):
    rng = random.Random(0)
    drawn = [train.drawing.sample_training_scene(rng) for _ in range(4)]
    latents = torch.randn(4, 4, 4, 4)
    return train.batches(drawn, latents, train.Tokenizer(spiece), size=8, seed=0)


@pytest.mark.slow
def test_training_lowers_the_loss(train, spiece, tmp_path):
    run, batches = trainer(train, spiece, tmp_path), data(train, spiece)
    losses = [run._step(*batch) for batch in itertools.islice(batches, 60)]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


def test_stopped_training_goes_on_where_it_was(train, spiece, tmp_path):
    first = trainer(train, spiece, tmp_path)
    first._step(*next(data(train, spiece)))
    first.elapsed = 12.5
    first.save()
    second = trainer(train, spiece, tmp_path)
    assert (second.step, second.elapsed) == (1, 12.5)
    for key, value in first.average.state_dict().items():
        assert torch.equal(second.average.state_dict()[key], value)


def test_saved_models_are_what_users_have(train, spiece, tmp_path):
    from demo.training.tokenizer import Tokenizer
    from lumina.checkpoints.architecture import config_from_state_dict
    from lumina.checkpoints.loading import load_next_dit
    from lumina.text_encoders.weights import load_decoder

    pair = trainer(train, spiece, tmp_path).average
    train.export(pair, spiece, 128, tmp_path)
    dit = load_file(tmp_path / "diffusion_models" / train.NAME)
    text = load_file(tmp_path / "text_encoders" / train.NAME)
    assert config_from_state_dict(dit) == train.DIT
    assert dit["layers.0.attention.gate"].dtype == torch.bfloat16
    ids, mask = Tokenizer(text["spiece_model"].numpy().tobytes())(["a red circle", ""])
    caption = load_decoder(text, dtype=torch.float32)(ids, mask)
    velocity = load_next_dit(dit, dtype=torch.float32)(
        torch.randn(2, 4, 4, 4), torch.rand(2), caption, mask
    )
    assert velocity.shape == (2, 4, 4, 4)


def test_one_caption_in_ten_is_empty(train, spiece):
    batches = data(train, spiece)
    masks = torch.cat([mask for _, _, mask in itertools.islice(batches, 100)])
    assert masks.shape[1] == train.CAPTION_TOKENS
    assert 0.05 < (masks.sum(1) == 1).float().mean() < 0.15


def test_words_of_the_captions_are_single_tokens():
    from demo.training.tokenizer import Tokenizer, train_tokenizer

    pieces = Tokenizer(train_tokenizer()).pieces.encode(
        "a picture of a red circle at the top left corner on a white background", out_type=str
    )
    assert len(pieces) == 15
