"""What the report calls right of a file: the very weights, or a sentence that can be read."""

import pytest
import torch
from safetensors.torch import save_file

from lumina_next.benchmarks.faults import files

WEIGHTS = {"a": torch.randn(2, 3), "b": torch.randn(4)}


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = (torch.nn.Parameter(WEIGHTS[key].clone()) for key in "ab")
        self.logit_scale = torch.nn.Parameter(torch.tensor(4.6))


@pytest.fixture
def names():
    return files.names_in_file(Network(), WEIGHTS)


@pytest.fixture(params=["m.safetensors", "m.pth", "folder"])
def write(request, tmp_path):
    """write(weights): the path of a file or folder that holds them."""
    path = tmp_path / request.param

    def write(weights):
        if path.suffix == ".pth":
            torch.save({"state_dict": weights, "epoch": 3}, path)
        elif path.suffix:
            save_file(weights, path)
        else:
            path.mkdir()
            for key, tensor in weights.items():
                save_file({key: tensor}, path / f"{key}.safetensors")
        return path

    return write


def test_names_are_found_by_the_numbers(names):
    assert names == {"first": "a", "second": "b"}


def test_weight_that_is_not_loaded_is_an_error():
    with pytest.raises(AssertionError, match="'c'"):
        files.names_in_file(Network(), {**WEIGHTS, "c": torch.ones(5)})


def test_same_weights_are_right(names, write):
    assert files.other_weights(Network(), names, write(WEIGHTS)) is None


def test_one_other_number_is_wrong(names, write):
    changed = WEIGHTS["a"].clone()
    changed[1, 2] += 1e-6
    found = files.other_weights(Network(), names, write({**WEIGHTS, "a": changed}))
    assert found == "first is loaded otherwise than it is in the file"


def test_weight_of_another_name_is_wrong(names, write):
    swapped = {"a": torch.ones(2, 3), "b": WEIGHTS["b"], "c": WEIGHTS["a"]}
    assert files.other_weights(Network(), names, write(swapped)).startswith("first is loaded")


def test_numbers_in_another_type_are_the_same(names, write):
    rounded = {key: tensor.half() for key, tensor in WEIGHTS.items()}
    network = Network()
    network.load_state_dict({"first": rounded["a"], "second": rounded["b"]}, strict=False)
    assert files.other_weights(network, names, write(rounded)) is None


@pytest.mark.parametrize(
    "sentence, problem",
    [
        ("m.pth is cut short. Download it again.", None),
        ("It is cut short.", "does not name the file"),
        ("m.pth is \x1b[31mred", "do not print"),
        ("m.pth is " + "long " * 400, "characters to say"),
    ],
)
def test_sentence_that_cannot_be_read_is_wrong(sentence, problem):
    found = files.bad_sentence(sentence, "m.pth")
    assert found is None if problem is None else problem in found
