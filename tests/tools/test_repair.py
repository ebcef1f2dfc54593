"""torchvision built for CUDA is changed once, and only beside a torch that has no CUDA."""

import pytest

from lumina_next.tools import repair


@pytest.fixture
def site_packages(tmp_path):
    """A virtual environment's packages, with one file that is patched and one that is removed."""
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    for name in ("torchvision/extension.py", "torchaudio/lib/operators.so"):
        (packages / name).parent.mkdir(parents=True)
        (packages / name).write_text("")
    return packages


@pytest.fixture
def imports(monkeypatch):
    """Errors of the imports that the repair tries, one after the other; "" for none."""
    errors = []
    monkeypatch.setattr(repair, "import_error", lambda python, modules: errors.pop(0))
    return errors


def test_patched_torchvision_is_patched_once(site_packages):
    repair.without_operators(site_packages)
    repair.without_operators(site_packages)
    assert (site_packages / "torchvision" / "extension.py").read_text() == repair.VISION_PATCH
    assert not (site_packages / "torchaudio" / "lib" / "operators.so").exists()


def test_packages_that_can_be_imported_stay_as_they_are(site_packages, imports, tmp_path):
    imports += [""]
    repair.repair_cuda_builds(tmp_path)
    assert (site_packages / "torchvision" / "extension.py").read_text() == ""


def test_operators_are_left_out_beside_a_torch_without_cuda(site_packages, imports, tmp_path):
    imports += ["torchvision::nms does not exist", "", ""]
    repair.repair_cuda_builds(tmp_path)
    assert (site_packages / "torchvision" / "extension.py").read_text() == repair.VISION_PATCH


def test_any_other_reason_is_shown_and_nothing_is_changed(site_packages, imports, tmp_path):
    imports += ["no such symbol", "AssertionError", "no such symbol"]
    with pytest.raises(SystemExit, match="(?s)do not fit the installed torch.*no such symbol"):
        repair.repair_cuda_builds(tmp_path)
    assert (site_packages / "torchvision" / "extension.py").read_text() == ""
