"""The demo model's evaluation, with a painter that is right or wrong on purpose."""

import importlib
import random

import numpy as np
import pytest


@pytest.fixture
def evaluate():
    return importlib.import_module("demo.evaluation.evaluate")


class Painter:
    """Stands where the model stands: draws each caption's scene, or with the colors changed."""

    def __init__(self, evaluate, wanted, color=None):
        self.scenes = {evaluate.main_caption(scene): scene for scene in wanted}
        self.color = color

    def draw(self, captions, *, seed, **settings):
        scenes = importlib.import_module("demo.scenes.drawing")
        return np.stack([scenes.draw(self._scene(scenes, caption)) for caption in captions])

    def _scene(self, scenes, caption):
        wanted = self.scenes[caption]
        if self.color is None:
            return wanted
        things = [scenes.Thing(t.shape, self.color, t.place) for t in wanted.things]
        return scenes.Scene(wanted.background, tuple(things))


def test_perfect_pictures_score_everything(evaluate):
    wanted = evaluate.held_out_scenes(10, 2, seed=1)
    share = evaluate.evaluate(Painter(evaluate, wanted), wanted)
    assert (share.pictures, share.right, share.exact, share.in_place) == (10, 70, 10, 10)


def test_wrong_colors_cost_one_attribute_a_thing(evaluate):
    wanted = [s for s in evaluate.held_out_scenes(30, 1, seed=2) if s.things[0].color != "red"]
    share = evaluate.evaluate(Painter(evaluate, wanted, color="red"), wanted)
    assert share.attributes - share.right == len(wanted) and share.exact == 0


def test_evaluation_uses_no_scene_of_the_training(evaluate):
    scenes = importlib.import_module("demo.scenes.drawing")
    rng = random.Random(0)
    trained = {repr(scenes.sample_training_scene(rng, 1)) for _ in range(2000)}
    assert not trained & {repr(s) for s in evaluate.held_out_scenes(200, 1, seed=0)}
