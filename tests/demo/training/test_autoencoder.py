import copy

import pytest
import torch

from lumina_next.demo.training import autoencoder, train_autoencoder
from lumina_next.demo.training.autoencoder import Autoencoder
from lumina_next.demo.training.train_autoencoder import Recipe, Training


class RandomPictures:
    def __init__(self, *unused):
        pass

    def batch(self, count, size, tinted=0.0):
        return torch.rand(count, 3, size, size)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(train_autoencoder, "Pictures", RandomPictures)
    return Recipe(crop=16, crop_batch=2)


def changed(before, after):
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    return [not torch.equal(a, b) for a, b in pairs]


def test_a_step_trains_both_halves(small, tmp_path):
    training = Training(small, tmp_path / "autoencoder.pt")
    before = copy.deepcopy(training.model)
    training._train_step(0.1)
    assert any(changed(before.taesd_encoder, training.model.taesd_encoder))
    assert any(changed(before.taesd_decoder, training.model.taesd_decoder))


def test_decoder_only_keeps_the_latents(small, tmp_path):
    kept = Autoencoder()
    train_autoencoder.initialize(kept)
    before = copy.deepcopy(kept)
    training = Training(small, tmp_path / "decoder.pt", keeping=kept)
    training._train_step(0.1)
    for trained in (training.model, training.average):
        assert not any(changed(before.taesd_encoder, trained.taesd_encoder))
        assert any(changed(before.taesd_decoder, trained.taesd_decoder))
    pictures = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(training.average.encode(pictures), before.encode(pictures))


def test_saved_file_rounds_trip_within_half_precision(tmp_path):
    saved = Autoencoder()
    train_autoencoder.initialize(saved)
    autoencoder.save(saved, tmp_path / "vae.safetensors")
    loaded, pictures = autoencoder.load(tmp_path / "vae.safetensors"), torch.rand(1, 3, 16, 16)
    expected = saved.encode(pictures)
    assert (loaded.encode(pictures) - expected).abs().max() < 0.01 * expected.abs().max()


def test_latents_are_normalized():
    model = Autoencoder()
    train_autoencoder.initialize(model)
    pictures = torch.rand(4, 3, 32, 32)
    train_autoencoder.normalize_latents(model, pictures)
    latents = model.encode(pictures)
    assert latents.mean().abs() < 1e-4 and (latents.std() - 1).abs() < 1e-4
