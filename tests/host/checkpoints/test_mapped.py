"""Weights that are read from a file while a model runs: what happens when the file changes."""

import os

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from lumina_next.tests.support import host_nodes, tiny


@pytest.fixture
def own_file(folder, weights):
    """A model's file of its own, which no other test loads."""
    save_file(weights, folder / "mapped.safetensors")
    return folder / "mapped.safetensors"


@pytest.fixture
def model(own_file):
    from lumina_next.host.model import loading

    return loading.load_model(own_file.name)


@pytest.fixture
def clip_and_file(host):
    from lumina_next.host.text_encoders import loading

    path = tiny.write_gemma(host) / "mapped-gemma.safetensors"
    save_file(tiny.gemma_tensors(), path, tiny.GEMMA_METADATA)
    return loading.load_text_encoder(path.name), path


def write_into(file, content):
    """What `cp` and many programs do: the same file, other bytes."""
    before = file.stat()
    with file.open("r+b") as opened:
        opened.truncate(0)
        opened.write(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


def other_weights(file):
    """As many bytes, every number another one."""
    content = bytearray(file.read_bytes())
    length = 8 + int.from_bytes(content[:8], "little")
    numbers = torch.frombuffer(content, dtype=torch.float32, offset=length)
    numbers += 1
    return bytes(content)


def test_model_whose_file_was_overwritten_stops_with_a_sentence(model, own_file):
    tiny.ksampler(model)
    write_into(own_file, other_weights(own_file))
    with pytest.raises(ValueError, match=r"^mapped\.safetensors was written to .* Run .* again"):
        tiny.ksampler(model)


def test_model_whose_file_was_cut_stops_before_it_is_read(model, own_file):
    """Reading it would end the process."""
    write_into(own_file, own_file.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"^mapped\.safetensors was written to"):
        tiny.ksampler(model)


def test_file_overwritten_during_a_run_is_noticed_at_the_next_step(model, own_file):
    steps = []

    def count(executor, *args, **kwargs):
        steps.append(1)
        if len(steps) == 2:
            write_into(own_file, other_weights(own_file))
        return executor(*args, **kwargs)

    import comfy.patcher_extension

    model = model.clone()
    kind = comfy.patcher_extension.WrappersMP.APPLY_MODEL
    model.add_wrapper_with_key(kind, "count", count)
    with pytest.raises(ValueError, match=r"^mapped\.safetensors was written to"):
        tiny.ksampler(model)
    assert len(steps) == 2


def test_changed_weights_are_neither_patched_nor_saved(model, own_file):
    key = "diffusion_model.layers.0.attention.wq.weight"
    patched = model.clone()
    patched.add_patches({key: ("diff", (torch.ones(32, 32),))})
    write_into(own_file, other_weights(own_file))
    with pytest.raises(ValueError, match="was written to"):
        tiny.ksampler(patched)
    with pytest.raises(ValueError, match="was written to"):
        model.model.state_dict_for_saving(model.model_state_dict())


@pytest.mark.parametrize("change", ["replace", "delete"])
def test_file_that_is_replaced_or_deleted_leaves_the_picture(model, own_file, change):
    expected = tiny.ksampler(model)
    if change == "replace":
        new = own_file.with_name("mapped.part")
        new.write_bytes(other_weights(own_file))
        new.rename(own_file)
    else:
        own_file.unlink()
    assert_close(tiny.ksampler(model), expected, rtol=0, atol=0)


def test_next_run_loads_the_changed_file(own_file, folder):
    from lumina_next.nodes.loaders import ModelLoader

    before = ModelLoader.fingerprint_inputs(model_name=own_file.name)
    write_into(own_file, other_weights(own_file))
    assert ModelLoader.fingerprint_inputs(model_name=own_file.name) != before


def test_text_encoder_whose_file_was_overwritten_stops_with_a_sentence(clip_and_file):
    clip, path = clip_and_file
    host_nodes.encode(clip, "a red cat")
    write_into(path, path.read_bytes())
    with pytest.raises(ValueError, match=r"^mapped-gemma\.safetensors was written to"):
        host_nodes.encode(clip, "a red cat")
    with pytest.raises(ValueError, match=r"^mapped-gemma\.safetensors was written to"):
        clip.generate(clip.tokenize("a red cat"), max_length=1)


def test_copied_weights_are_not_watched(own_file):
    """Where the host copies them, a changed file changes nothing."""
    from lumina_next.host.model.base_model import LuminaNext
    from lumina_next.host.model.loading import load_model

    model = load_model(own_file.name)
    assert isinstance(model.model, LuminaNext) and model.model.files.found
    assert LuminaNext(model.model.model_config).files.found == {}
