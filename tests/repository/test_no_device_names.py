"""The pack never names a device: where tensors live is the host's choice, on every kind of card."""

import ast
import re

import pytest

from lumina_next.tools.environment import ROOT

FILES = [path for layer in ("lumina", "host", "nodes") for path in (ROOT / layer).rglob("*.py")]
BACKENDS = ("cuda", "mps", "xpu", "npu", "hip")
DEVICE = re.compile(rf"({'|'.join(BACKENDS)})(:\d+)?")


def named_devices(source):
    """What in the source names a device: `.cuda(...)`, `torch.cuda`, "cuda:0"."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in BACKENDS:
            yield f".{node.attr}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if DEVICE.fullmatch(node.value.strip()):
                yield node.value


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_device_is_named(path):
    assert not list(named_devices(path.read_text()))


@pytest.mark.parametrize(
    "source, found",
    [
        ("x.cuda()", ".cuda"),
        ("torch.cuda.empty_cache()", ".cuda"),
        ("x.to('cuda')", "cuda"),
        ("torch.zeros(1, device='cuda:0')", "cuda:0"),
        ("torch.device(type='mps')", "mps"),
    ],
)
def test_device_name_is_found(source, found):
    assert list(named_devices(source)) == [found]


@pytest.mark.parametrize("source", ["x.to(y.device)", "'''Waits for CUDA.'''", "device='cpu'"])
def test_other_code_is_allowed(source):
    assert not list(named_devices(source))
