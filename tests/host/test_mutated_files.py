"""Some hundred damaged and hostile files through the loaders: each is used, or refused by name."""

import functools
import itertools
import json
import shutil
import time

import pytest

from lumina_next.tests.support import tiny
from lumina_next.tests.support.loras import STYLES
from lumina_next.tests.support.mutations.cases import mutated_files

SEED, CASES = 11, 80
LONGEST_S = 5


def next_dit():
    return tiny.weights(), {"sample_size": 16}


def matrices(tensors):
    """Without single numbers, which the mutations do not know."""
    return {key: tensor for key, tensor in tensors.items() if tensor.ndim}


def text_encoder(family):
    family = tiny.TEXT_FAMILIES[family]
    return family.tensors(), json.loads(family.metadata()["config"])


@pytest.mark.slow
@pytest.mark.parametrize("model", ["next-dit", "gemma", "llama", "t5", "lora"])
def test_every_file_is_used_or_refused_by_name(host, model):
    from lumina_next.host.checkpoints import folders
    from lumina_next.host.model import loading, lora
    from lumina_next.host.text_encoders import loading as text_encoders_loading

    if model == "next-dit":
        kind, load, parts = folders.MODELS, loading.load_model, next_dit()
    elif model == "lora":
        tiny.write_models(host)
        given = loading.load_model("native.safetensors")
        load = functools.partial(lora.with_lora, given, strength=1.0)
        kind, parts = folders.LORAS, (matrices(STYLES["diffusers"]), {})
    else:
        kind, load = folders.TEXT_ENCODERS, text_encoders_loading.load_text_encoder
        parts = text_encoder(model)
    found = {outcome_of(kind, load, *case) for case in some_files(host, kind, parts)}
    expected = {"used", "refused before it runs", "refused as it is loaded"}
    # Of a LoRA the header tells nearly all.
    assert found == expected or (model == "lora" and found >= {"used", "refused before it runs"})


def some_files(host, kind, parts):
    """Name and path of each file, which is there until the next one is asked for."""
    for name, write in itertools.islice(mutated_files(SEED, *parts), CASES):
        path = write(host.models / kind.folder)
        yield name, path
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def outcome_of(kind, load, name, path):
    """Asserts what must hold of every file. Any other exception than the two fails the test."""
    from lumina_next.host import validation
    from lumina_next.host.checkpoints import folders

    start = time.monotonic()
    assert path.name in folders.names(kind) or path.is_dir()
    problem, outcome = validation.explain_unusable(kind, path.name), "refused before it runs"
    if problem is None:
        try:
            load(path.name)
            outcome = "used"
        except (ValueError, FileNotFoundError) as error:
            problem, outcome = str(error), "refused as it is loaded"
    seconds = time.monotonic() - start
    assert seconds < LONGEST_S, f"{name}: {seconds:.1f} s"
    assert problem is None or (name in problem and len(problem) < 1500), problem
    assert problem is None or problem.replace("\n", "").isprintable(), problem
    return outcome
