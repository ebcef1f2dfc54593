"""The commands: they pack and quantize, say so, and leave nothing when they are stopped."""

import os
import signal

import pytest
import torch
from safetensors.torch import load_file, save_file

from lumina_next.lumina import __main__
from lumina_next.tests.support import next_dits
from lumina_next.tests.support.encoder_folders import WEIGHTS, assert_packed, converted


@pytest.fixture
def command():
    # A shell starts background jobs with SIGINT ignored.
    before = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in before.items()}
    yield lambda *arguments: __main__.main([*map(str, arguments)])
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def main(command):
    return lambda *arguments: command("pack", *arguments)


def test_command_packs_and_says_so(encoder_folder, packed_file, main, capsys):
    main(encoder_folder, packed_file, "--dtype", "bfloat16")
    assert_packed(packed_file, {n: converted(t, torch.bfloat16) for n, t in WEIGHTS.items()})
    assert "packed.safetensors (0.0 MB) was written." in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(encoder_folder, packed_file)
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("packed.safetensors is in ") and "Traceback" not in said
    main(encoder_folder, packed_file, "--overwrite")
    assert_packed(packed_file, WEIGHTS)


@pytest.mark.skipif(os.name == "nt", reason="Windows ends a process without telling it")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_command_leaves_nothing(encoder_folder, packed_file, main, monkeypatch, number):
    monkeypatch.setattr(__main__, "show", lambda *_: os.kill(os.getpid(), number))
    with pytest.raises(SystemExit) as ended:
        main(encoder_folder, packed_file)
    assert ended.value.code == 130
    assert os.listdir(packed_file.parent) == [encoder_folder.name]


@pytest.mark.skipif(os.name == "nt", reason="Windows ends a process without telling it")
def test_stopped_quantizing_leaves_nothing_and_says_so(tmp_path, command, monkeypatch, capsys):
    model = tmp_path / "model.safetensors"
    save_file(next_dits.native_weights(), model)
    monkeypatch.setattr(__main__, "show", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(SystemExit) as ended:
        command("quantize", model, tmp_path / "small.safetensors")
    assert ended.value.code == 130
    assert capsys.readouterr().err == "Stopped; nothing was written.\n"
    assert os.listdir(tmp_path) == [model.name]


def test_command_quantizes_and_says_so(tmp_path, command, capsys):
    model, file = tmp_path / "model.safetensors", tmp_path / "small.safetensors"
    save_file(next_dits.native_weights(), model)
    command("quantize", model, file, "--format", "int8")
    assert capsys.readouterr().out.startswith("small.safetensors was written: 18 matrices")
    assert load_file(file)["layers.1.attention.wo.weight"].dtype == torch.int8
    file.write_bytes(b"another model")
    with pytest.raises(SystemExit) as ended:
        command("quantize", model, file)
    assert ended.value.code == 1 and "Traceback" not in capsys.readouterr().err
    assert file.read_bytes() == b"another model"
