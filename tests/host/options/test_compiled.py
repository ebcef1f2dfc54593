"""A compiled model with the option nodes: the same picture, and as few graphs as sizes.

Compiling a model takes minutes, so a graph for each step would never be worth it. The backend here
counts graphs and runs them as they are; a step of two graphs would be one with a break.
"""

import dataclasses

import pytest
import torch
import torch._dynamo

from lumina_next.lumina.options.guidance import Guidance
from lumina_next.tests.support import region_nodes, tiny
from lumina_next.tests.support.option_nodes import dropped, resolved
from lumina_next.tests.support.tiny import NEGATIVE, POSITIVE, assert_same_picture

STEPS = 10
# Half of the way each, so that other sets of regions act as time goes on.
REGIONS = (
    (region_nodes.FIRST, region_nodes.LEFT | {"end": 0.5}),
    (region_nodes.SECOND, region_nodes.RIGHT | {"start": 0.5}),
)


@dataclasses.dataclass
class Counting:
    """A backend that counts the graphs it gets and the calls of them."""

    graphs: int = 0
    calls: int = 0

    def __call__(self, graph, inputs):
        self.graphs += 1

        def run(*inputs):
            self.calls += 1
            return graph(*inputs)

        return run


@pytest.fixture
def backend():
    torch._dynamo.reset()
    yield Counting()
    torch._dynamo.reset()


def compiled(model, backend):
    """As "TorchCompileModel" does it, which knows few backends."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    model = model.clone()
    set_torch_compile_wrapper(model=model, backend=backend)
    return model


def draw(model, positive=POSITIVE, height=16, width=12):
    import nodes

    latent = {"samples": torch.zeros(1, 4, height, width)}
    return nodes.common_ksampler(
        model, tiny.SEED, STEPS, tiny.GUIDANCE, "euler", "normal", positive, NEGATIVE, latent
    )[0]["samples"]


def guided(model, **settings):
    from lumina_next.host.options.guidance import with_guidance

    return with_guidance(model, Guidance(**settings))


OPTIONS = {
    "context drop": lambda model: dropped(model, 2, 1.0),
    "context drop at first": lambda model: dropped(model, 2, 0.5, "spread"),
    "resolution": lambda model: resolved(model, "time_aware", attention="on"),
    "guidance": lambda model: guided(model, renorm=1.0, rescale=0.5, zero_steps=2),
    "all": lambda model: guided(resolved(dropped(model), "time_aware", attention="on"), renorm=1.0),
}


@pytest.mark.parametrize("has_regions", [False, True], ids=["one prompt", "regions"])
@pytest.mark.parametrize("options", OPTIONS)
def test_compiled_run_is_one_graph_of_the_same_picture(model, backend, options, has_regions):
    model = OPTIONS[options](model)
    prompt = region_nodes.regions(*REGIONS) if has_regions else POSITIVE
    expected = draw(model, prompt)
    assert_same_picture(draw(compiled(model, backend), prompt), expected)
    assert (backend.graphs, backend.calls) == (1, STEPS)


def test_each_size_is_one_graph_more(model, backend):
    model = dropped(model)
    network = compiled(model, backend)
    for count, (height, width) in enumerate([(16, 12), (12, 20)], start=1):
        expected = draw(model, POSITIVE, height, width)
        assert_same_picture(draw(network, POSITIVE, height, width), expected)
        assert backend.graphs == count


def test_interval_of_guidance_is_one_graph_for_pairs_and_one_for_single_prompts(model, backend):
    model = guided(dropped(model), start=0.8, end=0.3)
    assert_same_picture(draw(compiled(model, backend)), draw(model))
    assert (backend.graphs, backend.calls) == (2, STEPS)


def test_context_drop_goes_on_through_an_attention_that_breaks_the_graph(model, backend):
    @torch.compiler.disable
    def override(attention, *args, **kwargs):
        return attention(*args, **kwargs)

    model = dropped(model)
    model.model_options["transformer_options"]["optimized_attention_override"] = override
    assert_same_picture(draw(compiled(model, backend)), draw(model))
    assert backend.calls > STEPS
