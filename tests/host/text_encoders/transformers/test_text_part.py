"""Only text models that need nothing else are made; nothing is looked up on the internet."""

import json
import os
import subprocess
import sys

import pytest
from transformers import CONFIG_MAPPING

from lumina_next.tests.support.any_text_models import FAMILIES, PICTURES
from lumina_next.tools import environment


def test_no_model_type_makes_transformers_look_anything_up():
    """config.json files come from strangers, and look-ups would show them the user's token."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.support.no_network"],
        cwd=environment.ROOT,
        env=os.environ | {"HF_TOKEN": "hf_a_secret", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["notices"], "the hook does not see a look-up"
    assert found["noted"] == []
    assert found["built"] > 100 and found["refused"] > 500


@pytest.mark.parametrize("model_type", ["detr", "vit", "encoder-decoder", "rag", "mra"])
def test_model_made_of_others_or_for_pictures_is_refused(model_type):
    from lumina_next.host.text_encoders.transformers.text_part import text_part

    with pytest.raises(ValueError, match=f'a/config.json is of a "{model_type}" model, which does'):
        text_part({"model_type": model_type}, "a/config.json")


@pytest.mark.parametrize("named", ["detr", "of_tomorrow", None, ["qwen2"]])
def test_named_part_must_read_text_itself(named):
    from lumina_next.host.text_encoders.transformers.text_part import text_part

    inside = {"model_type": named, "backbone": "owner/repository"}
    with pytest.raises(ValueError, match='"llava" model, which does not read text without parts'):
        text_part({"model_type": "llava", "text_config": inside}, "a/config.json")


@pytest.mark.parametrize("kind", FAMILIES)
def test_text_model_is_read_from_its_own_settings(kind):
    from lumina_next.host.text_encoders.transformers.text_part import text_part

    config_class, settings = text_part(FAMILIES[kind], "a/config.json")
    assert "model_type" not in settings
    assert config_class.model_type.removesuffix("_text") == kind.removesuffix("_text")


def test_text_model_inside_a_larger_one_is_read():
    from lumina_next.host.text_encoders.transformers.text_part import text_part

    config_json = {"model_type": "llava", "text_config": FAMILIES["qwen2"]}
    config_json["vision_config"] = {"model_type": "clip_vision_model", **PICTURES}
    config_class, settings = text_part(config_json, "a/config.json")
    assert config_class is CONFIG_MAPPING["qwen2"]
    assert settings == {k: v for k, v in FAMILIES["qwen2"].items() if k != "model_type"}
