"""A packed file is written whole or not at all."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from lumina_next.lumina.checkpoints.convert import disk
from lumina_next.lumina.checkpoints.convert import pack as convert_pack
from lumina_next.lumina.checkpoints.convert.pack import pack
from lumina_next.tests.support.encoder_folders import (
    EMBEDDING,
    WEIGHTS,
    assert_packed,
    write_folder,
)
from lumina_next.tools.environment import ROOT


@pytest.fixture(params=[True, False], ids=["nameless", "named"])
def nameless(request, monkeypatch):
    """Both ways of writing: without a name until the end, and with a temporary one."""
    if not request.param:
        monkeypatch.setattr(disk, "_open_nameless", lambda folder: None)


class Full(BaseException):
    """Like ComfyUI's own for a user's canceling, no Exception."""


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("stop", [1, 2, 5, 28])
def test_stopping_anywhere_leaves_the_disk_as_it_was(
    encoder_folder, packed_file, small_pieces, nameless, there, stop
):
    if there:
        packed_file.write_bytes(b"the old file")
    calls = []

    def progress(done, total):
        calls.append(done / total)
        if len(calls) == stop:
            raise Full

    with pytest.raises(Full):
        pack(encoder_folder, packed_file, overwrite=True, progress=progress)
    assert len(calls) == stop and calls == sorted(calls)
    present = {path.name for path in packed_file.parent.iterdir()}
    assert present == ({encoder_folder.name, packed_file.name} if there else {encoder_folder.name})
    assert not there or packed_file.read_bytes() == b"the old file"


def test_progress_ends_at_the_whole(encoder_folder, packed_file):
    calls = []
    packed = pack(encoder_folder, packed_file, progress=lambda *said: calls.append(said))
    assert calls[-1] == (packed.size, packed.size)


def test_disk_that_becomes_full_is_said(encoder_folder, packed_file, monkeypatch):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"became full, and packed\.safetensors was not written"):
        pack(encoder_folder, packed_file)
    assert os.listdir(packed_file.parent) == [encoder_folder.name]


LIMITED = """
import resource, sys
from lumina.checkpoints.convert.pack import pack

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    pack(*sys.argv[1:])
except OSError as error:
    print(error)
"""


def run_child(code, *arguments, **options):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=True, **options
    ).stdout


@pytest.mark.skipif(os.name == "nt", reason="Windows sets no such limit")
def test_file_that_may_not_be_so_large_is_said(encoder_folder, packed_file):
    said = run_child(LIMITED, encoder_folder, packed_file)
    assert "takes no file as large as packed.safetensors" in said and "Errno" not in said
    assert os.listdir(packed_file.parent) == [encoder_folder.name]


def test_file_that_appears_meanwhile_is_kept(encoder_folder, packed_file, nameless):
    def appear(done, total):
        packed_file.write_bytes(b"another one's")

    with pytest.raises(FileExistsError, match=r"Another program was first: it wrote packed\.safe"):
        pack(encoder_folder, packed_file, progress=appear)
    assert packed_file.read_bytes() == b"another one's"
    present = {path.name for path in packed_file.parent.iterdir()}
    assert present == {encoder_folder.name, packed_file.name}


def test_same_file_packed_meanwhile_is_found(encoder_folder, packed_file, nameless):
    other = packed_file.with_name("other.safetensors")
    pack(encoder_folder, other)
    appear = [packed_file]

    def first(done, total):
        if appear:
            shutil.copy(other, appear.pop())

    assert not pack(encoder_folder, packed_file, progress=first).is_new


def test_disk_without_links_replaces_nothing_either(encoder_folder, packed_file, monkeypatch):
    def refuse(*_arguments, **_options):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(disk, "_open_nameless", lambda folder: None)
    monkeypatch.setattr(os, "link", refuse)
    assert pack(encoder_folder, packed_file).is_new
    assert_packed(packed_file, WEIGHTS)
    packed_file.unlink()
    with pytest.raises(FileExistsError, match="Another program was first"):
        pack(encoder_folder, packed_file, progress=lambda *_: packed_file.write_bytes(b"x"))
    assert packed_file.read_bytes() == b"x"


def overwrite(weights):
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + b"x")


def replace(weights):
    shutil.copy2(weights, weights.with_suffix(".new"))
    weights.with_suffix(".new").replace(weights)


def touch(weights):
    os.utime(weights, ns=(1, 1))


@pytest.mark.parametrize("change", [overwrite, replace, touch])
def test_folder_that_changes_meanwhile_is_noticed(encoder_folder, packed_file, change):
    (weights,) = encoder_folder.glob("*.safetensors")
    to_do = [change]

    def progress(done, total):
        if to_do:
            to_do.pop()(weights)

    with pytest.raises(ValueError, match=rf"{weights.name} changed while it was being packed"):
        pack(encoder_folder, packed_file, progress=progress)
    assert not packed_file.exists()


def test_what_a_killed_run_left_is_removed_and_said(encoder_folder, packed_file):
    left = packed_file.with_name(packed_file.name + ".0123abcd.part")
    left.write_bytes(bytes(2_000_000))
    foreign = packed_file.with_name("another.safetensors.0123abcd.part")
    foreign.write_bytes(b"")
    said = convert_pack.describe(pack(encoder_folder, packed_file))
    assert said.endswith("An unfinished file of an earlier run was removed (2.0 MB).")
    assert not left.exists() and foreign.exists()


def test_what_another_run_is_writing_stays(encoder_folder, packed_file, monkeypatch):
    monkeypatch.setattr(disk, "_open_nameless", lambda folder: None)
    with disk.atomic_write(packed_file, overwrite=False) as opened:
        opened.write(b"so far")
        opened.flush()
        assert pack(encoder_folder, packed_file).removed == 0
        (part,) = packed_file.parent.glob("*.part")
        assert part.read_bytes() == b"so far"
        packed_file.unlink()
    assert packed_file.read_bytes() == b"so far"


KILLED = """
import os, signal, sys
from lumina.checkpoints.convert.pack import pack

pack(*sys.argv[1:], progress=lambda *_: os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has files without names")
def test_killed_process_leaves_nothing(encoder_folder, packed_file):
    with pytest.raises(subprocess.CalledProcessError) as ended:
        run_child(KILLED, encoder_folder, packed_file)
    assert ended.value.returncode == -signal.SIGKILL
    assert os.listdir(packed_file.parent) == [encoder_folder.name]


def test_too_little_space_is_said_before_writing(encoder_folder, packed_file, monkeypatch):
    left = shutil.disk_usage(encoder_folder)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: left)
    with pytest.raises(OSError, match=r"takes 0\.0 MB, and the disk of .* has 0\.0 MB left"):
        pack(encoder_folder, packed_file)
    assert not packed_file.exists()


def test_file_that_is_the_same_is_left_alone(encoder_folder, packed_file, small_pieces):
    for dtype in convert_pack.DTYPES:
        assert pack(encoder_folder, packed_file, dtype, overwrite=True).is_new
        before = packed_file.stat()
        packed = pack(encoder_folder, packed_file, dtype)
        assert not packed.is_new and "was there already" in convert_pack.describe(packed)
        assert packed_file.stat().st_mtime_ns == before.st_mtime_ns
        assert packed_file.stat().st_ino == before.st_ino


def test_other_file_is_replaced_only_if_allowed(encoder_folder, packed_file):
    pack(encoder_folder, packed_file)
    whole = bytearray(packed_file.read_bytes())
    whole[-1] ^= 1
    packed_file.write_bytes(whole)
    with pytest.raises(FileExistsError, match=r"packed\.safetensors is in .* already"):
        pack(encoder_folder, packed_file)
    assert packed_file.read_bytes() == whole
    assert pack(encoder_folder, packed_file, overwrite=True).is_new
    assert_packed(packed_file, WEIGHTS)


CHILD = """
import os, runpy, sys, threading
from lumina.checkpoints.convert import pack

os.fsync = lambda _: None  # seconds for so large a file

def peak():
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024

folder, first, second = sys.argv[1:]
open("/proc/self/clear_refs", "w").write("5")  # the peak so far is forgotten
before = peak()
sys.argv = ["lumina", "pack", folder, first, "--dtype", "float8_e4m3fn"]
runpy.run_module("lumina", run_name="__main__")
print(peak() - before)

# As ComfyUI is quit: the main thread ends while another one works.
begun = threading.Event()
def linger(done, total):
    begun.set()
    threading.Event().wait()
arguments = {"args": (folder, second), "kwargs": {"progress": linger}}
threading.Thread(target=pack.pack, daemon=True, **arguments).start()
begun.wait()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux tells it")
def test_memory_stays_small_and_quitting_cleans_up(tmp_path):
    size = 192 * 2**20
    folder = write_folder(tmp_path / "sparse", [{}])
    header = {EMBEDDING: {"dtype": "BF16", "shape": [size // 4, 2], "data_offsets": [0, size]}}
    text = json.dumps(header).encode()
    with next(folder.glob("*.safetensors")).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + size)
    files = [tmp_path / "first.safetensors", tmp_path / "second.safetensors"]
    command = [sys.executable, "-c", CHILD, folder, *files]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stderr
    said, growth = run.stdout.splitlines()
    assert "first.safetensors (100.7 MB) was written" in said
    assert int(growth) < size / 3, f"{int(growth):,} bytes"
    assert {path.name for path in tmp_path.iterdir()} == {"sparse", "first.safetensors"}
    files[0].unlink()


@pytest.mark.parametrize(
    "file, said",
    [
        ("packed.bin", r"must end in \.safetensors"),
        ("packed", r"must end in \.safetensors"),
        ("nowhere/packed.safetensors", "There is no folder"),
        ("gemma-2b/packed.safetensors", "would lie in gemma-2b"),
        ("a.safetensors", "is a folder"),
        ("n" * 240 + ".safetensors", "takes 252 bytes, and at most 241 are possible"),
    ],
)
def test_place_that_cannot_be_written_is_refused(encoder_folder, tmp_path, file, said):
    (tmp_path / "a.safetensors").mkdir()
    with pytest.raises((ValueError, OSError), match=said):
        pack(encoder_folder, tmp_path / file)
    assert {path.name for path in tmp_path.iterdir()} == {"gemma-2b", "a.safetensors"}
