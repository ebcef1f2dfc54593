"""What the dropdowns list, whatever lies in the folders."""

import asyncio
import os
import shutil

import pytest
from safetensors.torch import save_file

import lumina_next
from lumina_next.tests.support import tiny


def test_model_of_several_files_is_listed_once(folder, host):
    from lumina_next.host.checkpoints import folders

    listed = folders.names(folders.MODELS)
    assert [name for name in listed if "sharded" in name] == ["sharded"]
    assert "native.safetensors" in listed


def test_shards_without_an_index_are_listed_once(folder, weights):
    from lumina_next.host.checkpoints import folders

    tiny.save_shards(folder / "bare")
    (folder / "bare" / "model.safetensors.index.json").unlink()
    listed = folders.names(folders.MODELS)
    assert [name for name in listed if "bare" in name] == [f"bare/{tiny.SHARDS[0]}"]


def test_pipeline_folder_is_both_model_and_text_encoder(host, weights):
    from lumina_next.host.checkpoints import folders

    pipeline = host.models / "diffusers" / "whole-pipeline"
    for part in ("transformer", "text_encoder"):
        (pipeline / part).mkdir(parents=True)
    (pipeline / "model_index.json").write_text("{}")
    save_file(weights, pipeline / "transformer" / "diffusion_pytorch_model.safetensors")
    for shelf in (folders.MODELS, folders.TEXT_ENCODERS):
        assert "whole-pipeline" in folders.names(shelf)
    found = folders.locate(folders.MODELS, "whole-pipeline").files
    assert [path.name for path in found] == ["diffusion_pytorch_model.safetensors"]


DEMO = "lumina-next-demo.safetensors"


def test_demo_model_is_in_the_lists_of_this_pack(host):
    from lumina_next.host.checkpoints import folders

    for kind in (folders.MODELS, folders.TEXT_ENCODERS):
        assert folders.names(kind).count(DEMO) == 1
        assert folders.find(kind, DEMO) == folders.DEMO_MODELS / kind.folder / DEMO


@pytest.mark.parametrize(
    "loader, name, is_listed",
    [
        ("VAELoader", "vae_name", True),
        ("UNETLoader", "unet_name", False),
        ("CLIPLoader", "clip_name", False),
    ],
)
def test_native_loaders_list_only_what_they_can_load_of_the_demo(host, loader, name, is_listed):
    import nodes

    listed, *_ = nodes.NODE_CLASS_MAPPINGS[loader].INPUT_TYPES()["required"][name]
    assert (DEMO in listed) == is_listed


def test_file_of_the_user_goes_before_the_demo_of_that_name(host, weights):
    from lumina_next.host.checkpoints import folders

    own = host.models / "diffusion_models" / DEMO
    save_file(weights, own)
    try:
        assert folders.find(folders.MODELS, DEMO) == own
    finally:
        own.unlink()


# --- what is odd or damaged

INDEX = "x.safetensors.index.json"


def make_odd(place, kind):
    """One odd thing in a folder that exists."""
    if kind == "folder named as an index":
        (place / INDEX).mkdir()
    elif kind == "index that links to itself":
        (place / INDEX).symlink_to(INDEX)
    elif kind == "pipes":
        for name in (INDEX, "config.json", "tokenizer.json", "pipe.safetensors"):
            os.mkfifo(place / name)
    elif kind == "index that links nowhere":
        (place / INDEX).symlink_to("absent.json")
    elif kind == "deep index":
        (place / INDEX).write_bytes(b'{"weight_map":' + b"[" * 100_000)
    elif kind == "index of another encoding":
        (place / INDEX).write_bytes(b"\xff\xfe{}")
    elif kind == "index of long names":
        (place / INDEX).write_text('{"weight_map": {"w": "%s.safetensors"}}' % ("n" * 400))
    elif kind == "model that links nowhere":
        (place / "lost.safetensors").symlink_to("absent.safetensors")
    elif kind == "model that links to itself":
        (place / "own.safetensors").symlink_to("own.safetensors")
    elif kind == "folder named as a model":
        (place / "folder.safetensors").mkdir()
    elif kind == "one of many files":
        (place / "x-00001-of-999999999.safetensors").write_bytes(b"x")
    elif kind == "config that is a folder":
        (place / "config.json").mkdir()
    elif kind == "tokenizer that links nowhere":
        (place / "tokenizer.json").symlink_to("absent.json")
    elif kind == "tokenizer that links to itself":
        (place / "tokenizer.model").symlink_to("tokenizer.model")
    elif kind == "name that is not text":
        os.close(os.open(os.fsencode(place) + b"/\xff\xfe.safetensors", os.O_CREAT | os.O_WRONLY))
    elif kind == "longest name":
        (place / ("n" * 243 + ".safetensors")).write_bytes(b"x")
    elif kind == "name of control codes":
        (place / "\x1b[31m<b>.safetensors").write_bytes(b"x")


ODD = [
    "folder named as an index", "index that links to itself", "index that links nowhere",
    "deep index", "index of another encoding", "index of long names", "model that links nowhere",
    "model that links to itself", "folder named as a model", "one of many files",
    "config that is a folder", "tokenizer that links nowhere", "tokenizer that links to itself",
    "name that is not text", "longest name", "name of control codes", "pipes",
]  # fmt: skip


@pytest.fixture
def odd_models(host, weights):
    """Makes one odd thing beside a good model and a good text encoder; it is gone afterward."""
    places = [host.models / kind / "odd" for kind in ("diffusion_models", "text_encoders")]
    places.append(host.models / "diffusers" / "odd")

    def make(kind):
        for place in places:
            place.mkdir(parents=True)
            make_odd(place, kind)
        save_file(weights, places[0] / "good.safetensors")
        save_file(tiny.gemma_tensors(), places[1] / "good.safetensors", tiny.GEMMA_METADATA)
        return places

    yield make
    for place in places:
        shutil.rmtree(place, ignore_errors=True)


@pytest.mark.parametrize("odd", ODD)
def test_nothing_in_the_folders_keeps_the_pack_or_a_good_model_from_working(host, odd_models, odd):
    from lumina_next.host import validation
    from lumina_next.host.checkpoints import folders

    odd_models(odd)
    extension = asyncio.run(lumina_next.comfy_entrypoint())
    for node in asyncio.run(extension.get_node_list()):
        node.GET_SCHEMA()
    for kind in (folders.MODELS, folders.TEXT_ENCODERS):
        listed = folders.names(kind)
        good = [name for name in listed if name in ("odd", "odd/good.safetensors")]
        assert good, listed
        for name in good:
            assert name == "odd" or validation.explain_unusable(kind, name) is None
        for name in listed:
            name.encode()
            problem = validation.explain_unusable(kind, name)
            assert problem is None or problem.isprintable(), problem


@pytest.mark.parametrize("odd", ["deep index", "index that links to itself"])
def test_folder_with_a_bad_index_says_so_where_it_is_chosen(host, odd_models, odd):
    from lumina_next.host import validation
    from lumina_next.host.checkpoints import folders

    odd_models(odd)
    assert f"{INDEX} in odd" in validation.explain_unusable(folders.MODELS, "odd")


def test_name_that_is_not_text_is_left_out_with_one_line(host, odd_models, caplog):
    from lumina_next.host.checkpoints import folders

    folders._log_once.cache_clear()
    odd_models("name that is not text")
    for _ in range(3):
        assert not [name for name in folders.names(folders.MODELS) if "\udcff" in name]
    (line,) = [record.getMessage() for record in caplog.records]
    assert "\\udcff" in line and "not listed" in line


def test_folders_that_cannot_be_read_are_left_out_with_one_line(host, monkeypatch, caplog):
    """As when a drive is gone; the host itself raises then."""
    import folder_paths

    from lumina_next.host.checkpoints import folders

    def raise_error(kind):
        raise PermissionError(13, "Permission denied", "/models")

    folders._log_once.cache_clear()
    monkeypatch.setattr(folder_paths, "get_filename_list", raise_error)
    assert folders.names(folders.MODELS) == folders.names(folders.MODELS)
    assert ["cannot be listed" in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="Windows has other permissions")
def test_index_that_may_not_be_read_is_said(host, odd_models):
    from lumina_next.host import validation
    from lumina_next.host.checkpoints import folders

    place = odd_models("deep index")[0]
    (place / INDEX).chmod(0)
    user = os.geteuid()
    nobody = user or 65534
    for folder in (place, *place.parents[:4]):
        os.chmod(folder, 0o755)
    os.seteuid(nobody)  # the administrator may read everything
    try:
        folders.names(folders.MODELS)
        problem = validation.explain_unusable(folders.MODELS, "odd")
    finally:
        os.seteuid(user)
    assert problem.startswith(f"{INDEX} in odd cannot be read: Permission denied.")


@pytest.mark.parametrize("name", ["/", ".", "..", "", "a/..", "n" * 300, "a\0b", None, 3, "\udcff"])
def test_names_that_no_model_has_are_not_found(host, folder, name):
    from lumina_next.host import validation
    from lumina_next.host.checkpoints import folders

    problem = validation.explain_unusable(folders.MODELS, name)
    assert "is not in models/diffusion_models, where there is" in problem
    assert problem.isprintable() and len(problem) < 600
    with pytest.raises(FileNotFoundError, match="is not in models"):
        folders.find(folders.MODELS, name)
