"""The settings that nodes leave on a MODEL: whose they are, and the size that it was trained at."""

import pytest
import torch
from safetensors.torch import save_file

from lumina_next.lumina.options.context_drop import Cells, ContextDrop
from lumina_next.lumina.options.forward import ForwardOptions
from lumina_next.lumina.rope.scaling import Scaling
from lumina_next.tests.support import tiny
from lumina_next.tests.support.option_nodes import by_hand, dropped, resolved, rotation
from lumina_next.tests.support.tiny import CONFIG, POSITIVE, assert_same_picture, ksampler


def test_two_branches_do_not_see_each_other(model):
    before = ksampler(model)
    linear, ntk = resolved(model, "linear"), resolved(model, "ntk")
    first = ksampler(linear)
    assert not torch.allclose(ksampler(ntk), first, atol=0.05)
    assert torch.equal(ksampler(linear), first)
    assert torch.equal(ksampler(model), before)


def test_area_keeps_the_factor_of_the_whole_picture(model):
    from lumina_next.host.options import settings

    steps = []
    watched = resolved(model, "linear")
    given = watched.model_options["transformer_options"][settings.KEY]

    class Watching:
        def forward_options(self, step):
            steps.append((len(step.rows), len(step.columns), given.resolution.ratios(step.frame)))
            return given.forward_options(step)

    watched.model_options["transformer_options"][settings.KEY] = Watching()
    area = [[POSITIVE[0][0], {**POSITIVE[0][1], "area": (8, 6, 0, 0), "strength": 1.0}]]
    ksampler(watched, positive=area)
    assert {(4, 3, (2.0, 1.5)), (8, 6, (2.0, 1.5))} >= set(steps) and (4, 3, (2.0, 1.5)) in steps


def test_compiled_model_follows_a_changed_setting(model):
    def compiled(model):
        from comfy_api.torch_helpers import set_torch_compile_wrapper

        model = model.clone()
        set_torch_compile_wrapper(model=model, backend="eager")
        return model

    for method in ("linear", "ntk"):
        chosen = resolved(model, method)
        assert_same_picture(ksampler(compiled(chosen)), ksampler(chosen))


def test_settings_of_both_nodes_add_up(model):
    scaling, drop = Scaling("linear"), ContextDrop(2, 1.0)

    def options(t, height, width):
        return ForwardOptions(
            rotation(scaling, t, height, width),
            cells=Cells(height, width, 2),
            dropping=drop.layers(t, CONFIG.layers),
        )

    expected = by_hand(model, options)
    assert_same_picture(ksampler(dropped(resolved(model, "linear"))), expected)
    assert_same_picture(ksampler(resolved(dropped(model), "linear")), expected)


def test_other_models_are_refused(model):
    from lumina_next.host.options import settings

    class Other:
        class model_config:
            unet_config = {"image_model": "flux"}

    model = model.clone()
    model.model = Other()
    with pytest.raises(ValueError, match="not a Lumina-Next model but Other"):
        settings.check_model(model)


@pytest.mark.parametrize("size_in_file, expected", [("512", 32), (None, 64), ("big", 64)])
def test_trained_size_is_read_from_the_file(folder, size_in_file, expected):
    from lumina_next.host.model import loading
    from lumina_next.host.options import settings

    about = None if size_in_file is None else {"trained_size_px": size_in_file}
    save_file(tiny.weights(), folder / "sized.safetensors", about)
    assert settings.trained_tokens(loading.load_model("sized.safetensors")) == expected
    assert settings.trained_tokens(loading.load_model("sized.safetensors"), 256) == 16


def test_trained_size_is_read_from_a_diffusers_folder(folder):
    from lumina_next.host.model import loading
    from lumina_next.host.options import settings

    pipeline = folder / "lumina-diffusers"
    pipeline.mkdir(exist_ok=True)
    save_file(tiny.diffusers_weights(), pipeline / "diffusion_pytorch_model.safetensors")
    (pipeline / "config.json").write_text('{"sample_size": 32}')
    assert settings.trained_tokens(loading.load_model("lumina-diffusers")) == 16


def test_demo_model_knows_its_size(host):
    from lumina_next.host.model import loading
    from lumina_next.host.options import settings

    assert settings.trained_tokens(loading.load_model("lumina-next-demo.safetensors")) == 8
