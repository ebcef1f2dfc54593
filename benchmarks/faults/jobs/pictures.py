"""The same picture whatever happens around it: to the bit, or within the rounding of a batch.

To the bit: run again, in another process, with previews, after other models, after a LoRA, and in
the older versions of ComfyUI. Within `tiny.assert_same_picture`: as one of a batch, whose pictures
share their matrix products.
"""

from collections.abc import Callable, Iterator

from torch import Tensor

from lumina_next.benchmarks.faults.jobs.hosts import (
    LORA,
    latent,
    latent_graph,
    other_picture,
    running,
)
from lumina_next.benchmarks.faults.tally import Tally
from lumina_next.tests.support import jobs, tiny
from lumina_next.tools.comfyui import Host
from lumina_next.tools.fetch import OLDER_HOSTS

BATCH = 4
Check = Callable[[Host, int, Tensor], str | None]


def tallies(count: int, seed: int) -> Iterator[Tally]:
    """A row for each thing that may happen around a picture, of `count` seeds."""
    seeds = range(seed, seed + count)
    with running() as host:
        expected = [latent(host, latent_graph(number)) for number in seeds]
        for name, check in CHECKS.items():
            tally = Tally(f"same picture: {name}")
            for number, picture in zip(seeds, expected, strict=True):
                problem = check(host, number, picture)
                tally.count(problem and f"seed {number}: {problem}")
            yield tally
    yield in_another_host("in another process", seeds, expected)
    for release in OLDER_HOSTS:
        name = f"in ComfyUI {release.version}"
        yield in_another_host(name, seeds, expected, source=release.folder)


def in_another_host(name: str, seeds: range, expected: list[Tensor], **settings: object) -> Tally:
    tally = Tally(f"same picture: {name}")
    with running(**settings) as host:
        for seed, picture in zip(seeds, expected, strict=True):
            problem = difference(latent(host, latent_graph(seed)), picture)
            tally.count(problem and f"seed {seed}: {problem}")
    return tally


def difference(found: Tensor, expected: Tensor) -> str | None:
    if found.shape == expected.shape and found.equal(expected):
        return None
    return f"differs by up to {(found - expected).abs().max():.1e}"


def run_again(host: Host, seed: int, expected: Tensor) -> str | None:
    return other_picture(host, latent_graph(seed), expected)


def with_previews(host: Host, seed: int, expected: Tensor) -> str | None:
    settings = {"extra_data": {"preview_method": "latent2rgb"}, "client_id": "report"}
    return other_picture(host, latent_graph(seed), expected, **settings)


def after_other_models(host: Host, seed: int, expected: Tensor) -> str | None:
    """The demo model draws in between, from its own text encoder to its VAE."""
    jobs.run(host, jobs.good_graph())
    return run_again(host, seed, expected)


def after_a_lora(host: Host, seed: int, expected: Tensor) -> str | None:
    """The same graph with a LoRA, which changes the picture, in between."""
    graph = latent_graph(seed, sampler={"model": ["lora", 0]})
    inputs = {"model": ["model", 0], "lora_name": LORA, "strength_model": 1.0}
    graph["lora"] = {"class_type": "LoraLoaderModelOnly", "inputs": inputs}
    if latent(host, graph).equal(expected):
        return "the LoRA changes nothing"
    return run_again(host, seed, expected)


def as_one_of_a_batch(host: Host, seed: int, expected: Tensor) -> str | None:
    """Each picture of a batch drawn alone, from the noise of its place.

    The host draws that noise in one go with the batch's, and these agree only where a picture's
    numbers are a multiple of 16, as torch makes so many at once.
    """
    size = {"batch_size": BATCH, "width": 128, "height": 128}
    batch = latent(host, latent_graph(seed, empty=size))
    for place in range(BATCH):
        graph = latent_graph(seed, empty=size)
        graph["sampler"]["inputs"]["latent_image"] = ["alone", 0]
        inputs = {"samples": ["new", 0], "batch_index": place, "length": 1}
        graph["alone"] = {"class_type": "LatentFromBatch", "inputs": inputs}
        try:
            tiny.assert_same_picture(latent(host, graph), batch[place : place + 1])
        except AssertionError as error:
            return f"place {place}: {error}"
    return None


CHECKS: dict[str, Check] = {
    "run again": run_again,
    "with previews": with_previews,
    "after other models": after_other_models,
    "after a LoRA": after_a_lora,
    "as one of a batch": as_one_of_a_batch,
}
