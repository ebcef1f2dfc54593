"""What the dropdowns list."""

import pytest
from safetensors.torch import save_file

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
