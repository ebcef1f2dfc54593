"""SIGMAS as a picture: the lines are where the numbers say, in one picture for several."""

import numpy as np
import torch
from PIL import Image
from torch.testing import assert_close

from lumina_next.host import sigmas_picture
from lumina_next.host.sigmas_picture import COLORS, HEIGHT, MAX_DOTS, WIDTH, draw_sigmas
from lumina_next.lumina.schedules import SCHEDULES
from lumina_next.tests.support.sampling_nodes import inputs_of, schema

NAME = "LuminaNextPlotSigmas"


def rgb(color):
    return torch.tensor([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])


def distance(image, point, color):
    """How far the picture is from a color at a point, at its nearest pixel."""
    x, y = (round(value) for value in point)
    near = image[0, y - 1 : y + 2, x - 1 : x + 2]
    return (near - rgb(color)).abs().amax(-1).min().item()


def place(step, steps, share):
    across = sigmas_picture.LEFT + step / steps * (sigmas_picture.RIGHT - sigmas_picture.LEFT)
    up = share * (sigmas_picture.BOTTOM - sigmas_picture.TOP)
    return across, sigmas_picture.BOTTOM - up


def test_every_sigma_has_its_dot():
    sigmas = SCHEDULES["rational"](7)
    image = draw_sigmas({"sigmas0": sigmas})
    assert image.shape == (1, HEIGHT, WIDTH, 3) and image.dtype == torch.float32
    for step, sigma in enumerate(sigmas.tolist()):
        assert distance(image, place(step, 7, sigma), COLORS[0]) < 0.02


def test_points_beside_the_line_are_white():
    image = draw_sigmas({"sigmas0": SCHEDULES["uniform"](10)})
    assert distance(image, place(5, 10, 0.5), COLORS[0]) < 0.02
    assert distance(image, place(5, 10, 0.6), "#ffffff") == 0
    assert distance(image, place(5, 10, 0.4), "#ffffff") == 0


def test_several_share_the_axes_of_the_longest_in_colors_of_their_own():
    image = draw_sigmas({"a": SCHEDULES["uniform"](4), "b": SCHEDULES["uniform"](8)})
    assert distance(image, place(2, 8, 0.5), COLORS[0]) < 0.02
    assert distance(image, place(4, 8, 0.5), COLORS[1]) < 0.02


def test_axis_reaches_the_highest_sigma():
    image = draw_sigmas({"sigmas0": torch.tensor([14.6, 7.3, 0.0])})
    assert distance(image, place(1, 2, 0.5), COLORS[0]) < 0.02


def test_many_sigmas_make_a_line_without_dots():
    few, many = (
        (draw_sigmas({"a": torch.linspace(1, 0, count)}) - rgb(COLORS[0])).abs().amax(-1) < 0.1
        for count in (MAX_DOTS, MAX_DOTS + 1)
    )
    assert many.sum() < 0.8 * few.sum()


def test_no_sigmas_and_a_single_one_are_drawn():
    for sigmas in (torch.zeros(0), torch.ones(1)):
        assert draw_sigmas({"sigmas0": sigmas}).shape == (1, HEIGHT, WIDTH, 3)


def schedule(name, steps):
    inputs = {"schedule": name, "steps": steps, "denoise": 1.0}
    return {"class_type": "LuminaNextScheduler", "inputs": inputs}


def test_node_shows_and_puts_out_the_picture(host):
    sources = {"sigmas.sigmas0": ["first", 0], "sigmas.sigmas1": ["second", 0]}
    graph = {
        "first": schedule("uniform", 5),
        "second": schedule("uniform", 9),
        "plot": {"class_type": NAME, "inputs": sources},
        "save": {"class_type": "SaveImage", "inputs": {"images": ["plot", 0]}},
    }
    graph["save"]["inputs"]["filename_prefix"] = "sigmas"
    shown = host.run(graph)
    (preview,), (saved,) = shown["plot"]["images"], shown["save"]["images"]
    expected = draw_sigmas({"sigmas0": SCHEDULES["uniform"](5), "sigmas1": SCHEDULES["uniform"](9)})
    for file, folder in ((preview, host.base / "temp"), (saved, host.output)):
        with Image.open(folder / file["filename"]) as picture:
            found = torch.from_numpy(np.array(picture, dtype=np.float32) / 255)
        assert_close(found, expected[0], atol=1 / 255, rtol=0)


def test_everything_has_a_tooltip(host):
    described = schema(NAME)
    assert described.description.endswith(".") and described.search_aliases
    assert all(item.tooltip.endswith(".") for item in [*inputs_of(NAME), *described.outputs])
