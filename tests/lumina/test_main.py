"""The command: it packs, says so, and leaves nothing when it is stopped."""

import os
import signal

import pytest
import torch

from lumina_next.lumina import __main__
from lumina_next.tests.support.encoder_folders import WEIGHTS, assert_packed, converted


@pytest.fixture
def main():
    # A shell starts background jobs with SIGINT ignored.
    before = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in before.items()}
    yield lambda *arguments: __main__.main(["pack", *map(str, arguments)])
    for number, handler in before.items():
        signal.signal(number, handler)


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
