"""The sampling nodes over HTTP: settings reach the math, wrong ones are refused."""

import pytest

from lumina_next.tests.support import jobs, tiny


@pytest.fixture(scope="module")
def tiny_server(server):
    """The server, with the tiny models: unlike an untrained one they draw no two runs alike."""
    tiny.write_models(server)
    tiny.write_gemma(server)
    return server


def flat_graph(**sampler):
    """From files to a saved latent, with our sampler in the place of KSampler."""
    graph = tiny.graph()
    links = graph["sampler"]["inputs"]
    kept = {key: links[key] for key in ("model", "positive", "negative", "latent_image")}
    graph["sampler"] = {
        "class_type": "LuminaNextSampler",
        "inputs": {**kept, "cfg": 4.0, "denoise": 1.0, "seed": next(jobs.seeds), **sampler},
    }
    return graph


FLAT = {
    "preset": "Custom",
    "preset.steps": 3,
    "preset.schedule": "sigmoid",
    "preset.schedule.mu": 0.5,
    "preset.schedule.alpha": 5.0,
    "preset.schedule.beta": 10.0,
    "preset.solver": "dopri5",
    "preset.solver.rtol": 0.01,
    "preset.solver.atol": 0.01,
    "preset.solver.max_steps": 50,
}


def test_preset_runs_over_http(tiny_server):
    latent = jobs.saved_latent(tiny_server, jobs.run(tiny_server, flat_graph(preset="Fast")))
    assert latent.shape == (2, 4, 15, 17) and bool(latent.isfinite().all())


def test_custom_settings_over_http_reach_schedule_and_solver(tiny_server):
    """Flat keys, as the editor sends them; the same run with scheduler and solver in nodes."""
    graph = flat_graph(**FLAT)
    found = jobs.saved_latent(tiny_server, jobs.run(tiny_server, graph))
    inputs = graph["sampler"]["inputs"]
    parts = {key.removeprefix("preset."): value for key, value in FLAT.items() if key != "preset"}
    graph["scheduler"] = {
        "class_type": "LuminaNextScheduler",
        "inputs": {"denoise": 1.0, **{k: v for k, v in parts.items() if "solver" not in k}},
    }
    graph["solver"] = {
        "class_type": "LuminaNextSolver",
        "inputs": {k: v for k, v in parts.items() if "solver" in k},
    }
    links = ("model", "positive", "negative", "latent_image", "cfg")
    graph["sampler"] = {
        "class_type": "SamplerCustom",
        "inputs": {
            **{key: inputs[key] for key in links},
            "add_noise": True,
            "noise_seed": inputs["seed"],
            "sampler": ["solver", 0],
            "sigmas": ["scheduler", 0],
        },
    }
    assert found.equal(jobs.saved_latent(tiny_server, jobs.run(tiny_server, graph)))


@pytest.mark.parametrize(
    "key, value", [("preset.schedule.mu", 2.0), ("preset.steps", 0), ("cfg", -1.0)]
)
def test_number_out_of_range_is_refused_before_the_run(tiny_server, key, value):
    assert jobs.refusal(tiny_server, flat_graph(**FLAT | {key: value}))["sampler"] == key


def test_setting_that_the_choice_needs_is_asked_for(tiny_server):
    flat = {key: value for key, value in FLAT.items() if key != "preset.solver.rtol"}
    assert jobs.refusal(tiny_server, flat_graph(**flat))["sampler"] == "rtol"


def test_unknown_choice_is_answered_with_the_list(tiny_server):
    message = jobs.error(tiny_server, flat_graph(preset="Slow"))
    assert message.startswith("LuminaNextSampler: ")
    assert '"preset" is missing or not in the list. It can be: Fast, Balanced' in message


def test_dopri5_at_its_limit_says_so_to_the_user(tiny_server):
    message = jobs.error(tiny_server, flat_graph(**FLAT | {"preset.solver.max_steps": 1}))
    assert "dopri5 has taken 1 steps (7 model calls)" in message
    assert "Raise max_steps" in message
