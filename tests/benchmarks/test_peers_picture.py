"""The comparison of whole pictures: that the ways draw the same, or that it says so."""

import importlib

import numpy as np
import pytest
import torch


@pytest.fixture
def picture(scripts_importable):
    return importlib.import_module("benchmarks.peers.picture")


@pytest.fixture
def drawn(picture):
    latent = torch.randn(1, 4, 2, 2, generator=torch.manual_seed(0))
    return picture.Drawn(latent, np.full((1, 16, 16, 3), 100, np.uint8))


def test_what_only_rounding_tells_apart_is_the_same_picture(picture, drawn):
    rounded = picture.Drawn(drawn.latent + 1e-6, drawn.picture - 1)
    picture.check_same({"ours": drawn, "other": rounded})


@pytest.mark.parametrize("change", [1e-2, float("nan")])
def test_another_latent_is_an_error_that_names_the_way(picture, drawn, change):
    changed = picture.Drawn(drawn.latent + change, drawn.picture)
    with pytest.raises(ValueError, match="^other and ours draw different"):
        picture.check_same({"ours": drawn, "same": drawn, "other": changed})


def test_another_picture_of_the_same_latent_is_an_error(picture, drawn):
    changed = picture.Drawn(drawn.latent, drawn.picture + 2)
    with pytest.raises(ValueError, match="pixels by 2 of 255"):
        picture.check_same({"ours": drawn, "other": changed})


def test_line_has_median_and_range_of_seconds_and_ratio(picture):
    row = picture.PictureTiming("plain torch", 3, (0.5, 0.6, 0.75), (1.0, 1.25, 1.5))
    assert str(row) == "| plain torch | 0.60 (0.50-0.75) | 1.25 (1.00-1.50) |"


@pytest.mark.slow
@torch.inference_mode()
def test_diffusers_draws_what_plain_torch_draws(picture):
    demo = picture.Demo()
    pipeline = picture.diffusers(demo, steps=2)
    ways = {
        "plain torch": picture.plain_torch(demo, steps=2)(),
        "diffusers": pipeline(),
        "diffusers, table kept": picture.with_table_kept(pipeline)(),
    }
    picture.check_same(ways)
    assert ways["diffusers"].latent.std() > 0.5  # none is empty


@pytest.mark.slow  # imports diffusers
def test_table_is_made_once_where_it_is_kept_and_anew_afterwards(picture, monkeypatch):
    module = importlib.import_module("diffusers.pipelines.lumina.pipeline_lumina")
    name, made = "get_2d_rotary_pos_embed_lumina", []
    monkeypatch.setattr(module, name, made.append)
    draw = picture.with_table_kept(lambda: getattr(module, name)(72))
    draw()
    draw()
    assert made == [72]
    getattr(module, name)(72)
    assert made == [72, 72]
