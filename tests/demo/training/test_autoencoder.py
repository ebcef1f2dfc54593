"""The demo's autoencoder and its training on random pictures."""

import copy
import importlib

import pytest
import torch


@pytest.fixture
def autoencoder():
    return importlib.import_module("demo.training.autoencoder")


@pytest.fixture
def training():
    return importlib.import_module("demo.training.train_autoencoder")


@pytest.fixture
def untrained(autoencoder, training):
    model = autoencoder.Autoencoder()
    training.initialize(model)
    return model


class RandomPictures:
    def __init__(self, *unused):
        pass

    def batch(self, count, size, tinted=0.0):
        return torch.rand(count, 3, size, size)


@pytest.fixture
def small(training, monkeypatch):
    monkeypatch.setattr(training, "Pictures", RandomPictures)
    return training.Recipe(crop=16, crop_batch=2)


def changed(before, after):
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    return [not torch.equal(a, b) for a, b in pairs]


def test_a_step_trains_both_halves(training, small, tmp_path):
    run = training.Training(small, tmp_path / "autoencoder.pt")
    before = copy.deepcopy(run.model)
    run._train_step(0.1)
    assert any(changed(before.taesd_encoder, run.model.taesd_encoder))
    assert any(changed(before.taesd_decoder, run.model.taesd_decoder))


def test_decoder_only_keeps_the_latents(training, small, untrained, tmp_path):
    before = copy.deepcopy(untrained)
    run = training.Training(small, tmp_path / "decoder.pt", keeping=untrained)
    run._train_step(0.1)
    for trained in (run.model, run.average):
        assert not any(changed(before.taesd_encoder, trained.taesd_encoder))
        assert any(changed(before.taesd_decoder, trained.taesd_decoder))
    pictures = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(run.average.encode(pictures), before.encode(pictures))


def test_saved_file_rounds_trip_within_half_precision(autoencoder, training, untrained, tmp_path):
    training.save(untrained, tmp_path / "vae.safetensors")
    loaded, pictures = autoencoder.load(tmp_path / "vae.safetensors"), torch.rand(1, 3, 16, 16)
    expected = untrained.encode(pictures)
    assert (loaded.encode(pictures) - expected).abs().max() < 0.01 * expected.abs().max()


def test_latents_are_normalized(training, untrained):
    pictures = torch.rand(4, 3, 32, 32)
    training.normalize_latents(untrained, pictures)
    latents = untrained.encode(pictures)
    assert latents.mean().abs() < 1e-4 and (latents.std() - 1).abs() < 1e-4
