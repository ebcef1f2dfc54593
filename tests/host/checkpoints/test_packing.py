"""A Hugging Face folder packed by the node: the loader makes the same encodings of the file."""

import json
import logging
import os
import re
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from lumina_next.tests.support import host_nodes, tiny

PROMPTS = ("a red cat, and a dog", "Zürich 猫", "")


@pytest.fixture
def node(host):
    from lumina_next.nodes.convert import PackTextEncoder

    return PackTextEncoder


@pytest.fixture
def text_encoders(host):
    return host.models / "text_encoders"


@pytest.fixture
def folder(text_encoders):
    """models/text_encoders/gemma-2b, in several shards; its packed file is not there."""
    path = text_encoders / "gemma-2b"
    if not path.exists():
        tiny.gemma().save_pretrained(path, max_shard_size="20KB")
        (path / "tokenizer.model").write_bytes(tiny.pieces())
        assert len(list(path.glob("*.safetensors"))) > 1
    (text_encoders / "gemma-2b.safetensors").unlink(missing_ok=True)
    return path


def graph(**inputs):
    given = {"folder": "gemma-2b", "file_name": "", "dtype": "keep", "overwrite": False}
    pack = {"class_type": "LuminaNextPackTextEncoder", "inputs": given | inputs}
    return {"pack": pack}


def encode(name, text):
    """In float32: the host would halve such weights, which rounds them."""
    from lumina_next.host.checkpoints import folders
    from lumina_next.host.text_encoders import loading

    path = folders.find(folders.TEXT_ENCODERS, name)
    clip = loading.load_text_encoder_file(str(path), {"dtype": torch.float32})
    return host_nodes.encode(clip, text)[0]


@pytest.mark.parametrize("text", PROMPTS)
def test_packed_file_encodes_as_its_folder(host, folder, text):
    """Not to the last bit: the CPU rounds by where in memory, and so in the file, weights start."""
    host.run(graph())
    assert_close(encode("gemma-2b.safetensors", text), encode("gemma-2b", text))


def test_name_is_the_one_that_the_loader_lists(node, folder):
    from lumina_next.host.checkpoints import folders

    inputs = graph(file_name="My Gemma")["pack"]["inputs"]
    (name,) = node.execute(**inputs).result
    assert name == "My Gemma.safetensors"
    assert name in folders.names(folders.TEXT_ENCODERS)


def test_folders_alone_are_offered(node, folder, text_encoders):
    save_file(tiny.gemma_tensors(), text_encoders / "one-file.safetensors")
    offered = node.GET_SCHEMA().inputs[0].options
    assert "gemma-2b" in offered and "one-file.safetensors" not in offered


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_other_types_encode_as_rounded_weights(host, folder, text_encoders, dtype):
    rounded = text_encoders / "rounded"
    weights = {
        name: tensor.to(dtype).float() if tensor.ndim > 1 else tensor
        for shard in folder.glob("*.safetensors")
        for name, tensor in load_file(shard).items()
    }
    rounded.mkdir(exist_ok=True)
    save_file(weights, rounded / "model.safetensors")
    for name in ("config.json", "tokenizer.model"):
        (rounded / name).write_bytes((folder / name).read_bytes())
    host.run(graph(dtype=str(dtype).removeprefix("torch.")))
    found = load_file(text_encoders / "gemma-2b.safetensors")
    assert found["embed_tokens.weight"].dtype == dtype
    assert found["norm.weight"].dtype == torch.float32
    for text in PROMPTS:
        assert_close(encode("gemma-2b.safetensors", text), encode("rounded", text))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float8_e4m3fn"])
def test_loader_leaves_the_chosen_type_as_it_is(host, folder, text_encoders, dtype):
    from lumina_next.host.text_encoders import loading

    host.run(graph(dtype=dtype))
    loaded = loading.load_text_encoder("gemma-2b.safetensors").cond_stage_model.state_dict()
    packed = load_file(text_encoders / "gemma-2b.safetensors")
    for name in ("embed_tokens.weight", "layers.2.mlp.down_proj.weight"):
        (found,) = [tensor for key, tensor in loaded.items() if key.endswith("." + name)]
        assert found.dtype == getattr(torch, dtype)
        assert_close(found, packed[name], rtol=0, atol=0)


def test_running_again_writes_only_what_is_not_there(host, folder, text_encoders):
    import execution

    sizes = {"lru": 0, "ram": 0, "ram_inactive": 0}
    server = Mock(client_id=None)
    executor = execution.PromptExecutor(server, execution.CacheType.CLASSIC, sizes)
    file = text_encoders / "gemma-2b.safetensors"

    def run():
        executor.execute(graph(), "again", {"client_id": "tests"}, ["pack"])
        assert executor.success, executor.status_messages
        return file.stat()

    written, again = run(), run()
    assert (again.st_ino, again.st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    run()
    ((_, cached),) = [m for m in executor.status_messages if m[0] == "execution_cached"]
    assert cached["nodes"] == ["pack"]
    file.unlink()
    assert run().st_size == written.st_size


def test_other_file_of_that_name_is_an_error_unless_allowed(host, folder, text_encoders):
    file = text_encoders / "gemma-2b.safetensors"
    file.write_bytes(b"another model")
    with pytest.raises(RuntimeError, match=r"gemma-2b\.safetensors is in .* already"):
        host.run(graph())
    assert file.read_bytes() == b"another model"
    host.run(graph(overwrite=True))
    assert_close(encode(file.name, "a dog"), encode("gemma-2b", "a dog"), rtol=0, atol=0)


def test_canceling_leaves_nothing(node, folder, text_encoders, monkeypatch):
    import comfy.model_management as management
    from comfy.utils import ProgressBar

    before = sorted(os.listdir(text_encoders))

    def cancel(bar, done, total):
        management.interrupt_current_processing()

    monkeypatch.setattr(ProgressBar, "update_absolute", cancel)
    with pytest.raises(management.InterruptProcessingException):
        node.execute(**graph()["pack"]["inputs"])
    assert sorted(os.listdir(text_encoders)) == before


def test_progress_and_result_are_shown(node, folder, monkeypatch, caplog):
    import comfy.utils
    from comfy_execution.utils import CurrentNodeContext
    from server import PromptServer

    class Editor:
        shown = []

        def send_progress_text(self, text, node_id):
            self.shown.append((node_id, text))

    steps = []
    monkeypatch.setattr(PromptServer, "instance", Editor(), raising=False)
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda *said, **_: steps.append(said[:2]))
    with CurrentNodeContext(prompt_id="job", node_id="7"), caplog.at_level(logging.INFO):
        node.execute(**graph()["pack"]["inputs"])
    ((number, text),) = Editor.shown
    assert number == "7" and text in caplog.messages
    assert re.match(r"gemma-2b\.safetensors \(0\.\d MB\) was written\. Press R", text)
    assert steps[0][0] < steps[-1][0] == steps[-1][1]


@pytest.mark.parametrize("name", ["../gemma", "/tmp/gemma", "a/gemma", r"..\gemma", "C:gemma"])
def test_name_that_leads_out_of_the_folder_is_refused(host, folder, name):
    with pytest.raises(RuntimeError, match="must be a bare file name"):
        host.run(graph(file_name=name))


def test_folder_that_is_no_text_encoder_is_refused_before_anything_runs(host, text_encoders):
    bare = text_encoders / "bare-gemma"
    tiny.gemma().save_pretrained(bare)
    with pytest.raises(ValueError, match="bare-gemma comes without a tokenizer"):
        host.run(graph(folder="bare-gemma"))
    with pytest.raises(ValueError, match='"../input" is not in models/text_encoders'):
        host.run(graph(folder="../input"))


def test_pipeline_of_diffusers_is_packed(host, folder):
    pipeline = host.models / "diffusers" / "lumina-pipeline"
    tiny.gemma().save_pretrained(pipeline / "text_encoder")
    (pipeline / "tokenizer").mkdir()
    (pipeline / "tokenizer" / "tokenizer.model").write_bytes(tiny.pieces())
    (pipeline / "model_index.json").write_text(json.dumps({}))
    host.run(graph(folder="lumina-pipeline"))
    found = encode("lumina-pipeline.safetensors", "a red cat")
    assert_close(found, encode("gemma-2b", "a red cat"), rtol=0, atol=0)


def test_inputs_over_a_link_are_checked_when_they_arrive(node):
    assert node.validate_inputs() is True
    unknown = node.fingerprint_inputs()
    assert unknown != unknown  # not a number: equal to nothing


def test_every_input_and_output_is_explained(node):
    schema = node.GET_SCHEMA()
    assert schema.description and schema.search_aliases and schema.is_output_node
    assert all(item.tooltip for item in [*schema.inputs, *schema.outputs])
