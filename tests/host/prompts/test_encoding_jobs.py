"""The text encode node over HTTP."""

import torch

from lumina_next.tests.support import jobs
from lumina_next.tests.support.text_encode import ENCODE, graph


def test_server_draws_the_picture_of_two_native_nodes(server):
    def drawn(api):
        return jobs.saved_latent(server, jobs.run(server, api))

    positive, negative = ENCODE["inputs"]["positive"], ENCODE["inputs"]["negative"]
    expected = drawn(
        jobs.with_inputs(
            graph(),
            sampler={"positive": ["positive", 0], "negative": ["negative", 0]},
            positive={"text": positive},
            negative={"text": negative},
        )
    )
    framed = {"template": "custom", "template.text": "a blue {prompt}", "positive": "square"}
    cleaned = {"cleaning": "all", "positive": "A blue  SQUARE https://example.com"}
    for inputs in ({}, framed, cleaned):
        assert torch.equal(drawn(graph(**inputs)), expected)
    swapped = drawn(graph(positive=negative, negative=positive))
    assert not torch.allclose(swapped, expected, atol=0.1)


def test_server_draws_a_batch(server):
    api = jobs.with_inputs(
        graph(batch=True, positive="a blue square\na red circle"), latent={"batch_size": 2}
    )
    latent = jobs.saved_latent(server, jobs.run(server, api))
    assert latent.shape[0] == 2 and latent.isfinite().all()
