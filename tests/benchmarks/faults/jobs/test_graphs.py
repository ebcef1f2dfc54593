"""What the report calls right of a graph's answer, and what graphs it makes."""

import itertools

import pytest

from lumina_next.benchmarks.faults.jobs import graphs
from lumina_next.benchmarks.faults.jobs.random_graphs import Graphs

OURS = "custom_nodes/lumina-next/host/sampling.py, line 3"
NODES = {
    "SaveLatent": (["LATENT"], {"samples": ["LATENT"], "filename_prefix": ["STRING"]}),
    "SaveImage": ([], {"images": ["IMAGE"]}),
    "LuminaNextPlotSigmas": (
        [],
        {
            "sigmas": [
                "COMFY_AUTOGROW_V3",
                {"template": {"input": {"required": {"s": ["SIGMAS"]}}, "prefix": "s"}},
            ]
        },
    ),
    "LuminaNextScheduler": (
        ["SIGMAS"],
        {
            "schedule": [
                "COMFY_DYNAMICCOMBO_V3",
                {"options": [{"key": "k", "inputs": {"required": {"mu": ["FLOAT"]}}}]},
            ]
        },
    ),
    "VAELoader": (["VAE"], {"vae_name": [["a.safetensors"]]}),
    "VAEDecode": (["IMAGE"], {"samples": ["LATENT"], "vae": ["VAE"]}),
    "EmptyLatentImage": (["LATENT"], {"width": ["INT", {"min": 16, "max": 16384}]}),
    "LatentFlip": (["LATENT"], {"samples": ["LATENT"], "axis": [["x", "y"]]}),
    "LatentTrain": (["LATENT"], {"samples": ["LATENT"]}),
}
NODES = {
    name: {"output": output, "input": {"required": inputs}}
    for name, (output, inputs) in NODES.items()
}


def error(kind, text, traceback=(OURS,)):
    return {
        "exception_type": kind, "exception_message": text, "node_type": "KSampler",
        "traceback": list(traceback),
    }  # fmt: skip


@pytest.mark.parametrize(
    "given",
    [
        error("ValueError", "The LATENT holds numbers that are not finite."),
        error("AttributeError", "no attribute 'x'", traceback=["nodes.py, line 3"]),
    ],
    ids=["sentence of ours", "error of the host's"],
)
def test_sentence_or_error_of_the_host_is_right(given):
    assert graphs.error_problem(given) is None


@pytest.mark.parametrize(
    "given",
    [
        error("AttributeError", "'str' object has no attribute 'samples'"),
        error("KeyError", "'positive'"),
    ],
    ids=["type", "no words"],
)
def test_error_that_is_no_message_is_wrong_where_code_of_ours_is_in_it(given):
    assert graphs.error_problem(given)


def refused(traceback):
    details = {"type": "x", "extra_info": {"traceback": traceback}}
    node = {"class_type": "LuminaNextSize", "errors": [details]}
    return {"error": {"message": "Prompt outputs failed validation"}, "node_errors": {"1": node}}


def test_check_of_ours_that_fails_is_wrong():
    assert graphs.refusal_problem(refused([OURS])).startswith("a check failed")
    assert graphs.refusal_problem(refused(["execution.py, line 3"])) is None
    assert graphs.refusal_problem({}) and graphs.refusal_problem(None)


def some_graphs(seed, count=300):
    return list(itertools.islice(Graphs(NODES, seed), count))


def links(graph):
    for node in graph.values():
        for value in node["inputs"].values():
            if isinstance(value, list) and value and isinstance(value[0], str):
                yield value[0]


def test_graphs_come_from_the_seed():
    assert repr(some_graphs(1)) == repr(some_graphs(1)) != repr(some_graphs(2))


def test_graphs_use_nodes_of_every_kind_but_those_for_other_work():
    used = {node["class_type"] for graph in some_graphs(1) for node in graph.values()}
    assert NODES.keys() - used == set() or NODES.keys() - used == {"LatentTrain"}


def test_no_link_leads_to_a_node_that_is_not_there():
    for graph in some_graphs(3):
        assert set(links(graph)) <= graph.keys() | {"a"}  # "a": one of the odd values
