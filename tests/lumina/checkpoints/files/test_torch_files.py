"""Torch files are described without torch.load, as it would read them, or refused."""

import random
import time
import zipfile
from collections import Counter, OrderedDict

import pytest
import torch

from lumina_next.lumina.checkpoints import files, limits
from lumina_next.lumina.checkpoints.files import explain_unreadable
from lumina_next.lumina.checkpoints.files.torch_files import describe_torch_file
from lumina_next.tests.support.mutations import pickles
from lumina_next.tests.support.mutations.case import Case
from lumina_next.tests.support.mutations.pickles import archive_of, entries_of, torch_bytes

SHARED = torch.randn(4, 6)
WEIGHTS = {
    "whole": torch.randn(3, 5),
    "half": torch.randn(7).half(),
    "bfloat16": torch.randn(2, 2, 2).bfloat16(),
    "fp8": torch.randn(3).to(torch.float8_e4m3fn),
    "uint16": torch.arange(3).to(torch.uint16),
    "number": torch.tensor(3),
    "bool": torch.tensor([True, False]),
    "empty": torch.ones(0, 4),
    "view": SHARED[1:3, ::2],
    "transposed": SHARED.T,
    "parameter": torch.nn.Parameter(torch.ones(2)),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "m.pth"


def case():
    return Case(random.Random(0), {"w": torch.ones(3, 5), "v": torch.zeros(4)}, {})


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("kind", [dict, OrderedDict])
def test_description_is_what_torch_loads(path, old, kind):
    # torch itself does not read the newest dtypes back from the old form.
    weights = {name: w for name, w in WEIGHTS.items() if not old or name not in ("fp8", "uint16")}
    torch.save(kind(weights), path, _use_new_zipfile_serialization=not old)
    described = describe_torch_file(path)
    loaded = torch.load(path, weights_only=True)
    assert list(described) == list(loaded)
    for name, tensor in described.items():
        assert tensor.is_meta and tensor.shape == loaded[name].shape, name
        assert tensor.dtype == loaded[name].dtype, name


def test_what_else_training_programs_save_is_described(path):
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    beside = {"epoch": 3, "lr": 0.1, "name": "x", "betas": (0.9, [1, None, True]), "b": b"bytes"}
    more = {"milestones": Counter({30: 1, 60: 2}), "set": {1, 2}, "device": torch.device("cpu")}
    more |= {
        "dtype": torch.float16,
        "layout": torch.strided,
        "size": torch.Size([2]),
    }
    content = {"state_dict": model.state_dict(), "other": beside, "more": more}
    torch.save(content, path)
    described = describe_torch_file(path)
    assert described["other"] == beside
    assert described["more"]["milestones"] == more["milestones"]
    assert torch.load(path, weights_only=True)["more"] == more
    assert files.read_file_header(path).keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    "mutate, said",
    [
        (pickles.deflated_archive, "compressed archive"),
        (pickles.inflating_pickle, "compressed archive"),
        (pickles.encrypted_archive, "encrypted archive"),
        (pickles.repeated_entry, "two files of one name"),
        (pickles.short_storage, r"numbers of \"\d\" .* were expected"),
        (pickles.long_pickle, "too long"),
        (pickles.hashes_without_end, "tuple of more than 1,000 values"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_torch_would_misread_or_never_end_is_refused_at_once(path, mutate, said):
    path.write_bytes(mutate(case()))
    start = time.monotonic()
    with pytest.raises(ValueError, match=rf"^m\.pth (is|cannot).*{said}"):
        files.read_file(path)
    assert time.monotonic() - start < 5


def test_storage_is_refused_for_a_single_byte(path):
    entries = entries_of(torch_bytes({"w": torch.ones(5)}))
    name = next(name for name in entries if name.endswith("data/0"))
    for content in (entries[name][:-1], entries[name] + b"x"):
        path.write_bytes(archive_of((entries | {name: content}).items()))
        assert '"0" have' in explain_unreadable(path)
    path.write_bytes(archive_of(entries.items()))
    assert explain_unreadable(path) is None


def test_archive_with_a_second_pickle_is_refused(path):
    """A scanner might look at the other one."""
    good, other = (entries_of(torch_bytes({name: torch.ones(1)})) for name in "ab")
    second = {name.replace("archive", "other"): content for name, content in other.items()}
    path.write_bytes(archive_of([*good.items(), *second.items()]))
    with pytest.raises(ValueError, match=r"^m\.pth"):
        files.read_file(path)


def test_dictionary_that_holds_itself_is_refused(path):
    itself = {}
    itself["model"] = itself["state_dict"] = itself
    torch.save(itself, path)
    assert path.stat().st_size < 2000
    with pytest.raises(ValueError, match=r'^m\.pth holds more than named weights: "\w+" is a dict'):
        files.read_file(path)
    with pytest.raises(ValueError, match=r"^m\.pth holds more than named weights"):
        files.read_file_header(path)


def test_longest_list_of_tensors_takes_about_a_second(path):
    count = limits.PICKLE_STEPS // 40
    torch.save({f"layers.{i}.attention.wq.weight": torch.ones(1) for i in range(count)}, path)
    with zipfile.ZipFile(path) as archive:
        (size,) = (e.file_size for e in archive.infolist() if e.filename.endswith("data.pkl"))
    assert count == 5000 and size < limits.PICKLE_BYTES
    start = time.monotonic()
    assert len(describe_torch_file(path)) == count
    assert time.monotonic() - start < 5  # half a second on an idle machine


def old_file(path, keys):
    """A file from before torch 1.6 whose list of storages is this pickle."""
    content = torch_bytes({"w": torch.ones(3)}, _use_new_zipfile_serialization=False)
    before, _, data = content.rpartition(b"\x80\x02]")
    path.write_bytes(before + keys + data[data.index(b".") + 1 :])


@pytest.mark.parametrize(
    "keys",
    [
        b"\x80\x02]X\xff\xff\xff\x7fa.",  # a text of 2 GB, for which torch takes the memory first
        b"\x80\x02]X\x01\x00\x00\x00aa.",
        b"\x80\x02].",
        b"\x80\x02N.",
        b"\x80\x02cos\nsystem\n.",
    ],
)
def test_list_of_storages_before_torch_1_6_is_checked(path, keys):
    old_file(path, keys)
    with pytest.raises(ValueError, match="list of tensors|asks to run code"):
        describe_torch_file(path)
