"""The command `python -m lumina fit`: on a tiny model and the demo's text encoder."""

import os

import pytest
import torch
from safetensors.torch import save_file

from lumina_next.lumina import __main__
from lumina_next.lumina.checkpoints.fingerprint import fingerprint
from lumina_next.lumina.config import NextDiTConfig
from lumina_next.lumina.solvers.fitted import read_fitted
from lumina_next.lumina.solvers.fitting import EFFORTS, MIN_PROMPTS, Effort, Sets, plain
from lumina_next.tests.support.next_dits import native_weights
from lumina_next.tools.environment import ROOT

TEXT_ENCODER = ROOT / "demo" / "models" / "text_encoders" / "lumina-next-demo.safetensors"
CONFIG = NextDiTConfig(dim=16, layers=1, heads=2, kv_heads=1, caption_dim=192, ffn_dim=16)
WEIGHTS = {key: 0.1 * weight for key, weight in native_weights(CONFIG).items()}


@pytest.fixture
def files(tmp_path):
    """The command's arguments: a model, a text encoder, prompts, and the file to write."""
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    prompts = [f"a red circle and {i} blue squares" for i in range(MIN_PROMPTS)]
    (tmp_path / "prompts.txt").write_text("\n".join([*prompts, "", prompts[0]]))
    names = ("model.safetensors", TEXT_ENCODER, "prompts.txt", "fitted.json")
    return [tmp_path / name for name in names]


@pytest.fixture
def fit(files, monkeypatch, capsys):
    monkeypatch.setitem(EFFORTS, "quick", Effort(Sets(2, 2, 2), 5, 2))
    small = ["--effort", "quick", "--width", "32", "--height", "16"]

    def run(*arguments):
        """What the command says, and its exit status."""
        status = 0
        try:
            __main__.main(["fit", *map(str, files), *small, *map(str, arguments)])
        except SystemExit as ended:
            status = ended.code
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return status, said.out + said.err

    return run


@pytest.mark.slow
def test_command_fits_and_says_how_good_it_is(fit, files):
    status, said = fit("--calls", 3, 4, "--cfg", 2)
    assert status == 0 and "3 calls, mean error: fitted 0." in said and "euler, sigmoid" in said
    content = read_fitted(files[-1])
    assert sorted(content.solvers) == [3, 4] and content.pictures == (2, 2, 2)
    assert content.setting.fingerprint == fingerprint(WEIGHTS)
    assert (content.setting.width_px, content.setting.height_px, content.setting.cfg) == (32, 16, 2)
    assert sorted(os.listdir(files[0].parent)) == [
        "fitted.json",
        "model.safetensors",
        "prompts.txt",
    ]


@pytest.mark.slow
def test_cfg_1_asks_the_model_once_a_step(fit, files, monkeypatch):
    asked = []
    forward = plain._Guided._velocity
    monkeypatch.setattr(
        plain._Guided,
        "_velocity",
        lambda self, prompts, x, sigma: (asked.extend(prompts), forward(self, prompts, x, sigma))[
            1
        ],
    )
    assert fit("--calls", 3, "--cfg", 1)[0] == 0
    assert asked and "" not in asked


def stop(*_):
    raise KeyboardInterrupt


@pytest.mark.slow
def test_stopped_command_says_so_and_goes_on(fit, files, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(plain, "write_fitted", stop)
        status, said = fit("--calls", 3)
    assert status == 130 and "goes on from here" in said and not files[-1].exists()
    assert len(os.listdir(files[0].parent)) == 3  # with what was done
    monkeypatch.setattr("lumina_next.lumina.solvers.fitting.trajectories._draw", None)
    assert fit("--calls", 3)[0] == 0 and files[-1].exists()


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("--calls", 31), "calls must be a whole number from 2 to 30, got 31"),
        (("--cfg", -1), "cfg must be from 0 to 100, got -1"),
        (("--width", 40), "width must be a multiple of 16 pixels"),
    ],
)
def test_illegal_numbers_are_refused_in_a_sentence(fit, files, arguments, said):
    status, text = fit(*arguments)
    assert status == 1 and text.startswith(said) and not files[-1].exists()


def test_file_that_is_there_is_kept(fit, files):
    files[-1].write_text("mine")
    status, said = fit()
    assert status == 1 and "is there already" in said and files[-1].read_text() == "mine"


@pytest.mark.parametrize(
    "content, said",
    [
        (b"a\nb\n", "at least 24 different prompts"),
        (b"\xff\xfe\x00", "prompts.txt is no text in UTF-8"),
    ],
)
def test_bad_prompts_are_refused_in_a_sentence(fit, files, content, said):
    files[2].write_bytes(content)
    status, text = fit()
    assert status == 1 and said in text and not files[-1].exists()


def test_text_encoder_without_tokenizer_is_refused(fit, files, tmp_path):
    save_file({"layers.0.x": torch.zeros(1)}, tmp_path / "gemma.safetensors")
    files[1] = tmp_path / "gemma.safetensors"
    status, said = fit()
    assert status == 1 and "gemma.safetensors comes without a tokenizer" in said
