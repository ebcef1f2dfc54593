"""The registry's pictures are what the script draws, in the shapes that the registry asks for."""

import importlib

import pytest
from PIL import Image, ImageChops

from lumina_next.tools.environment import ROOT


@pytest.fixture
def artwork(monkeypatch):
    """The script, which runs from the repository root and imports `lumina` by plain name."""
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("tools.artwork")


@pytest.mark.parametrize("name", ["icon.png", "banner.png"])
def test_picture_is_what_the_script_draws(artwork, name):
    with Image.open(ROOT / "docs" / name) as kept:
        difference = ImageChops.difference(
            kept.convert("RGB"), artwork.draw(artwork.ARTWORKS[name])
        )
    # Versions of Pillow round the rim of a dot differently.
    assert max(high for _, high in difference.getextrema()) <= 16


def test_shapes_are_those_of_the_registry(artwork):
    with Image.open(ROOT / "docs" / "icon.png") as icon:
        assert icon.width == icon.height <= 400
    with Image.open(ROOT / "docs" / "banner.png") as banner:
        assert banner.width * 9 == banner.height * 21
    assert artwork.ARTWORKS.keys() == {"icon.png", "banner.png"}


def test_noise_is_on_the_left_and_light_on_the_right(artwork):
    picture = artwork.draw(artwork.ARTWORKS["banner.png"])
    left, right = picture.crop((0, 0, 200, 720)), picture.crop((1100, 0, 1300, 720))
    assert saturation(left) < 0.2 < 0.4 < saturation(right)


def saturation(picture):
    """Between 0 and 1, over the pixels that are not the dark ground."""
    hue, saturation, value = picture.convert("HSV").split()
    bright = value.point(lambda level: 255 if level > 60 else 0)
    counts = saturation.histogram(bright)
    return sum(level * count for level, count in enumerate(counts)) / sum(counts) / 255


def test_drawn_again_it_has_the_same_pixels(artwork, tmp_path):
    small = artwork.Artwork(rows=3, columns=7, dot_px=8, center=(1, 4), reach=3)
    artwork.save(small, tmp_path / "small.png")
    assert [file.name for file in tmp_path.iterdir()] == ["small.png"]
    with Image.open(tmp_path / "small.png") as saved:
        assert ImageChops.difference(saved, artwork.draw(small)).getbbox() is None


def test_color_stays_the_last_one_beyond_the_light(artwork):
    assert artwork.gradient(1.0) == artwork.LIGHT[-1][1]
    assert artwork.gradient(0.0) == artwork.LIGHT[0][1]
    assert artwork.gradient(0.11) == artwork.mixed(artwork.LIGHT[0][1], artwork.LIGHT[1][1], 0.5)
