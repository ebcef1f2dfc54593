"""Damaged and hostile model files: each loads exactly, or is refused by a sentence that names it.

A case is one file or folder from a seed, in a process of its own. Right: the model that is loaded
has every weight as torch's and safetensors' own readers read it; or ValueError, or
FileNotFoundError, in a printable sentence with the file's name. Anything else is wrong.
"""

import itertools
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from lumina_next.benchmarks.faults.bounds import bounded
from lumina_next.benchmarks.faults.in_process import import_host
from lumina_next.benchmarks.faults.tally import Tally
from lumina_next.lumina.checkpoints import key_names
from lumina_next.lumina.config import FlagDiTConfig
from lumina_next.lumina.model.flag_dit import FlagDiT
from lumina_next.tests.support import tiny
from lumina_next.tests.support.mutations.cases import mutated_files
from lumina_next.tests.support.random_weights import randomize

LONGEST_SENTENCE = 1500
HOSTS_OWN = "logit_scale"  # of every CLIP of the host
FAMILIES = {"Gemma": "gemma", "LLaMA": "llama", "T5": "t5"}
NETWORKS = {
    "Next-DiT": tiny.weights,
    "Flag-DiT": lambda: random_weights(FlagDiT(FlagDiTConfig(**asdict(tiny.CONFIG)))),
}


@dataclass
class Subject:
    """A sound model and how it is loaded. names: each weight in memory -> its name in the file."""

    weights: dict[str, Tensor]
    config_json: dict
    kind: object
    load: Callable[[str], nn.Module]
    names: dict[str, str]


def tallies(count: int, seed: int) -> Iterator[Tally]:
    """A row for each model, of `count` files."""
    with tempfile.TemporaryDirectory(prefix="faults-") as base:
        models = import_host(Path(base))
        for name in (*NETWORKS, *FAMILIES):
            yield tally(name, models, count, seed)


def tally(name: str, models: Path, count: int, seed: int) -> Tally:
    """One model's row."""
    given, found = subject(name, models), Tally(f"files: {name}")
    folder = models / given.kind.folder
    cases = mutated_files(seed, given.weights, given.config_json)
    for case, write in itertools.islice(cases, count):
        path = write(folder)
        problem = bounded(lambda path=path, case=case: problem_of(given, case, path))
        found.count(problem and f"{case}: {problem}")
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return found


def subject(name: str, models: Path) -> Subject:
    """The sound model, which is loaded once in this process: its children need import nothing."""
    from lumina_next.host.checkpoints import folders

    if name in NETWORKS:
        parts = NETWORKS[name](), {"sample_size": 16}, folders.MODELS, load_model
    else:
        family = tiny.TEXT_FAMILIES[FAMILIES[name]]
        config_json = json.loads(family.metadata()["config"])
        parts = family.tensors(), config_json, folders.TEXT_ENCODERS, load_text_encoder
    given = Subject(*parts, names={})
    folder = models / given.kind.folder / "sound"
    write_folder(folder, given)
    given.names = names_in_file(given.load("sound"), given.weights)
    warm_up(given)
    shutil.rmtree(folder)
    return given


def random_weights(network: nn.Module) -> dict[str, Tensor]:
    """Under the released names."""
    randomize(network, std=0.15, generator=torch.manual_seed(0))
    return key_names.to_file_keys(network.state_dict())


def write_folder(folder: Path, given: Subject) -> None:
    folder.mkdir()
    safetensors.torch.save_file(given.weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(given.config_json))


def load_model(name: str) -> nn.Module:
    from lumina_next.host.model.loading import load_model

    return load_model(name).model.diffusion_model


def load_text_encoder(name: str) -> nn.Module:
    from lumina_next.host.text_encoders.loading import load_text_encoder

    return load_text_encoder(name).cond_stage_model


def warm_up(given: Subject) -> None:
    """Import what the first cases would import, transformers' models among it."""
    from lumina_next.host import validation

    validation.explain_unusable(given.kind, "sound")
    torch.load  # noqa: B018 - torch imports it when it is first asked for


def names_in_file(network: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Each weight in memory -> its name in the file, by the numbers of a model of random weights.

    What one name in memory shares with another, as tied embeddings do, has one name in the file.
    """
    found = {}
    for key, loaded in network.state_dict().items():
        equal = [name for name, given in weights.items() if is_same(loaded, given)]
        if equal:
            found[key] = equal[0]
    unused = weights.keys() - found.values() - {"spiece_model"}
    assert not unused, f"The sound model's file holds what is not in memory: {unused}"
    return found


def is_same(loaded: Tensor, given: Tensor) -> bool:
    """Whether the numbers are the same, in whatever type the model keeps them."""
    if loaded.shape != given.shape:
        return False
    return torch.equal(*(x.to(loaded.dtype).double().nan_to_num(12345.0) for x in (loaded, given)))


def problem_of(given: Subject, case: str, path: Path) -> str | None:
    """What is wrong with how one file is taken, in the child."""
    from lumina_next.host import validation
    from lumina_next.host.checkpoints import folders

    if path.name not in folders.names(given.kind) and not path.is_dir():
        return "is not listed"
    sentence = validation.explain_unusable(given.kind, path.name)
    if sentence is None:
        try:
            network = given.load(path.name)
        except (ValueError, FileNotFoundError) as error:
            sentence = str(error)
    if sentence is None:
        return other_weights(network, given.names, path)
    return bad_sentence(sentence, case)


def bad_sentence(sentence: str, name: str) -> str | None:
    """What keeps a sentence from being read."""
    if name not in sentence:
        return f"does not name the file: {sentence[:200]}"
    if len(sentence) > LONGEST_SENTENCE:
        return f"takes {len(sentence):,} characters to say: {sentence[:200]}"
    if not sentence.replace("\n", "").isprintable():
        return f"has characters that do not print: {sentence[:200]!r}"
    return None


def other_weights(network: nn.Module, names: Mapping[str, str], path: Path) -> str | None:
    """Which weight is not as the file says, read by the libraries that define the formats."""
    in_file = read(path)
    for key, loaded in network.state_dict().items():
        if key.endswith(HOSTS_OWN):
            continue
        # A config.json may make another network of the same weights, with names of its own.
        wanted = [names[key]] if names.get(key) in in_file else in_file
        if not any(is_same(loaded, in_file[name]) for name in wanted):
            return f"{key} is loaded otherwise than it is in the file"
    return None


def read(path: Path) -> dict[str, Tensor]:
    """All tensors of a file or folder by name, whatever dictionary they are in."""
    if path.is_dir():
        files = sorted(path.glob("*.safetensors"))
        return {key: value for file in files for key, value in read(file).items()}
    if path.suffix == ".safetensors":
        return safetensors.torch.load(path.read_bytes())
    return flattened(torch.load(path, map_location="cpu", weights_only=True, mmap=False))


def flattened(content: object) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    inner = [flattened(value) for value in content.values()]
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    return {key: value for part in inner for key, value in part.items()} | tensors
