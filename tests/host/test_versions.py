"""Differences between ComfyUI's versions, as far as one of them can show them."""

import ast

import pytest
import torch

from lumina_next.tools import environment, fetch

VERSION = "9.9"


def test_this_comfyui_is_accepted(host):
    from lumina_next.host import versions

    versions.check()


def test_oldest_version_is_one_that_is_tested_and_the_one_that_the_registry_reads():
    from lumina_next.host import versions

    assert versions.OLDEST == fetch.OLDER_HOSTS[-1].version
    text = (environment.ROOT / "pyproject.toml").read_text()
    assert f'requires-comfyui = ">={versions.OLDEST}"' in text


@pytest.mark.parametrize("index", [0, 1])
def test_comfyui_without_a_private_function_is_refused_with_a_sentence(host, monkeypatch, index):
    from lumina_next.host import versions

    module, name = versions.PRIVATE[index]
    monkeypatch.setattr(versions, "PRIVATE", [(module, f"{name}_of_another_time")])
    expected = f"ComfyUI 9.9, which has no {module}.{name}_of_another_time.*0.16.3 and newer"
    with pytest.raises(ImportError, match=expected):
        versions.check(VERSION)


def test_private_functions_are_those_that_the_pack_calls():
    """Names with an underscore that host/ takes from elsewhere, found in its text."""
    from lumina_next.host import versions

    folder = environment.ROOT / "host"
    trees = [ast.parse(path.read_text()) for path in folder.rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    defined = {getattr(node, "name", getattr(node, "attr", None)) for node in nodes if is_own(node)}
    called = {node.attr for node in nodes if is_private(node)} - defined
    assert called == {name.split(".")[1] for _, name in versions.PRIVATE}


def is_private(node):
    return isinstance(node, ast.Attribute) and node.attr.startswith("_") and node.attr[1] != "_"


def is_own(node):
    stored = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    return stored or isinstance(node, ast.FunctionDef) and node.name != "_apply_model"


def test_latent_is_fitted_by_a_host_that_reads_one_size_less(host, monkeypatch):
    import comfy.sample

    from lumina_next.host import versions

    def older(model, latent_image, downscale_ratio_spacial=None):
        return latent_image * downscale_ratio_spacial

    monkeypatch.setattr(comfy.sample, "fix_empty_latent_channels", older)
    sizes = {"downscale_ratio_spacial": 3, "downscale_ratio_temporal": 5}
    assert versions.fitted_latent(None, torch.ones(1), sizes).item() == 3


def test_embedding_has_a_name_though_an_older_host_leaves_it_out():
    from lumina_next.host import versions

    vectors = torch.ones(1, 4)
    assert versions.embedding_at_start((vectors, "rest"), "toy rest") == (vectors, "toy", "rest")
    named = (vectors, "toy", "rest")
    assert versions.embedding_at_start(named, "toy, rest") == named
