"""What the dropdowns list."""

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


def test_demo_models_are_in_the_lists(host):
    import folder_paths

    from lumina_next.host.checkpoints.folders import DEMO_MODELS

    for kind in ("diffusion_models", "text_encoders", "vae"):
        assert str(DEMO_MODELS / kind) in folder_paths.get_folder_paths(kind)
