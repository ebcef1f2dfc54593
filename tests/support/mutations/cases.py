"""Damaged and hostile model files, from a seed: every form of file that the loaders read.

`mutated_files` starts from a sound model and breaks one thing at a time. Most files stay readable
up to the broken thing, so that each check is reached. A few are left sound.
"""

import itertools
import json
import random

from safetensors.torch import save

from lumina_next.tests.support.mutations.case import Case
from lumina_next.tests.support.mutations.headers import ON_SAFETENSORS, saved
from lumina_next.tests.support.mutations.pickles import ON_TORCH, torch_bytes
from lumina_next.tests.support.mutations.settings import ON_CONFIG, ON_INDEX
from lumina_next.tests.support.mutations.tensors import TENSORS


def mutated_files(seed, weights, config_json):
    """Endless (name, write) from a sound model; each name is used once.

    weights: a small state dict, which may hold a tokenizer. config_json: what its config.json says.
    write(folder) makes the files and returns the path of the file or folder that a user chooses;
    it begins with the name.
    """
    chance = random.Random(seed)
    forms = [_safetensors, _torch, _index, _config]
    for number in itertools.count():
        form = forms[number % len(forms)]
        mutate = chance.choice(MUTATIONS[form])
        name = f"{number:05}-{mutate.__name__.replace('_', '-')}"
        case = Case(random.Random(f"{seed} {number}"), dict(weights), dict(config_json))
        yield name, lambda folder, n=name, c=case, f=form, m=mutate: f(folder, n, c, m)


def _safetensors(folder, name, case, mutate):
    path = folder / f"{name}.safetensors"
    path.write_bytes(mutate(case) if mutate in ON_SAFETENSORS else saved(case, mutate))
    return path


def _torch(folder, name, case, mutate):
    path = folder / f"{name}.pth"
    content = mutate(case)
    path.write_bytes(content if isinstance(content, bytes) else torch_bytes(case.weights))
    return path


def _index(folder, name, case, mutate):
    (folder / name).mkdir()
    half = len(case.weights) // 2
    parts = [dict(list(case.weights.items())[:half]), dict(list(case.weights.items())[half:])]
    files = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for file, part in zip(files, parts, strict=True):
        (folder / name / file).write_bytes(save(part, case.metadata()))
    weight_map = {key: file for file, part in zip(files, parts, strict=True) for key in part}
    index = folder / name / "model.safetensors.index.json"
    mutate(case, index, weight_map)
    return folder / name


def _config(folder, name, case, mutate):
    (folder / name).mkdir()
    (folder / name / "model.safetensors").write_bytes(save(case.weights))
    text = mutate(case)
    path = folder / name / "config.json"
    path.write_bytes(text if isinstance(text, bytes) else json.dumps(case.config_json).encode())
    return folder / name


MUTATIONS = {
    _safetensors: TENSORS + ON_SAFETENSORS,
    _torch: TENSORS + ON_TORCH,
    _index: ON_INDEX,
    _config: ON_CONFIG,
}
