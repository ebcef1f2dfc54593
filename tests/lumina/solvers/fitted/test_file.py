"""The file of fitted solvers: what is written is read, what is damaged is refused by name."""

import json
import os

import pytest

from lumina_next.lumina.solvers.fitted import Errors, Setting, read_fitted, write_fitted
from lumina_next.tests.support.fitted_files import BAD, GOOD, SETTING, SOLVER, fitted_file


@pytest.fixture
def file(tmp_path):
    write_fitted(tmp_path / "solver.json", fitted_file())
    return tmp_path / "solver.json"


def test_what_is_written_is_read(file):
    assert read_fitted(file) == fitted_file()


def test_nothing_half_written_stays_after_an_error(file):
    before = file.read_bytes()
    with pytest.raises(TypeError):
        write_fitted(file, fitted_file(prompts=(object(),)))
    assert file.read_bytes() == before and os.listdir(file.parent) == [file.name]


def changed(path, value):
    """A change of the object in the file: `value` at the end of `path`."""

    def change(content):
        *outer, last = path
        for key in outer:
            content = content[key]
        content[last] = value

    return change


@pytest.mark.parametrize(
    "path, value, said",
    [
        (["format"], "lumina-next", "is no fitted solver"),
        (["version"], 2, "is version 2 of a fitted solver, and 1 is known here"),
        (["version"], {}, "is version {} of a fitted solver"),
        (["fingerprint"], "xyz", '"fingerprint" is not 64 hexadecimal digits'),
        (["fingerprint"], 5, '"fingerprint" holds 5, where a text belongs'),
        (["key"], "../x", '"key" is not 64 hexadecimal digits'),
        (["architecture"], [], '"architecture" is no object'),
        (["architecture"], {"dim": [1]}, '"architecture" holds more than numbers and names'),
        (["cfg"], "4", "\"cfg\" is '4', where 0 to 100 belongs"),
        (["cfg"], float("nan"), '"cfg" is nan'),
        (["cfg"], float("inf"), '"cfg" is inf'),
        (["width_px"], 10**30, '"width_px" is 10'),
        (["width_px"], 128.5, '"width_px" is 128.5'),
        (["height_px"], True, '"height_px" is True'),
        (["pictures"], {"fit": 1, "choose": 1}, '"report" is None'),
        (["seed"], -1, '"seed" is -1'),
        (["truth"], None, '"truth" holds None'),
        (["prompts"], ["a" * 10_000], '"prompts" holds'),
        (["prompts"], {}, '"prompts" is no list'),
        (["solvers"], [], '"solvers" has 0 entries'),
        (["solvers"], [5], '"solvers" is no object'),
        (["solvers", 0, "sigmas"], [1, "x", 0], '"sigmas" holds more than numbers'),
        (["solvers", 0, "sigmas"], [1] + [0.5] * 10**5, '"sigmas" has 100001 entries'),
        (["solvers", 0, "sigmas", 1], 1.2, "do not fall from 1 to 0"),
        (["solvers", 0, "weights", 1], [10**400, 1], '"weights" holds more than numbers'),
        (["solvers", 0, "weights", 1], [2, 2], "weights in step 2 that sum to 4, not to 1"),
        (["solvers", 0, "weights", 1], None, '"weights" is no list'),
        (["solvers", 0, "errors", "worst"], None, '"worst" is None'),
        (["solvers", 0, "others"], {}, '"others" does not name "euler, sigmoid"'),
    ],
)
def test_damaged_file_is_refused_by_name(file, path, value, said):
    content = json.loads(file.read_text())
    changed(path, value)(content)
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"^solver\.json is ") as refused:
        read_fitted(file)
    assert said in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b"\xff\xfe", b"{" * 10**5])
def test_file_that_is_no_json_object_is_refused_by_name(file, content):
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"^solver\.json is damaged"):
        read_fitted(file)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file other\.json"):
        read_fitted(tmp_path / "other.json")


def test_number_of_calls_that_was_not_fitted_names_those_that_were():
    with pytest.raises(ValueError, match=r"solver\.json has no solver of 7 calls. It has: 4\."):
        fitted_file().solver(7, "solver.json")
    assert fitted_file().solver(4, "solver.json").solver == SOLVER


@pytest.mark.parametrize(
    "errors, others, is_better",
    [
        (GOOD, BAD, True),
        (BAD, GOOD, False),
        (Errors(0.01, 0.01, 0.01, 0.07), BAD, False),
        (Errors(0.03, 0.01, 0.01, 0.01), BAD, False),
        (GOOD, GOOD, False),
    ],
)
def test_better_is_who_is_better_in_the_mean_and_in_the_worst(errors, others, is_better):
    assert fitted_file(errors=errors, others=others).solvers[4].is_better is is_better


@pytest.mark.parametrize(
    "other, said",
    [
        (SETTING, []),
        (
            Setting({"network": "Flag-DiT"}, "1" * 64, 1.0, 1, 1),
            ["a model of another architecture"],
        ),
        (Setting(SETTING.architecture, "1" * 64, 4.0, 128, 64), ["another model, or a LoRA on it"]),
        (Setting(SETTING.architecture, "0" * 64, 1.0, 128, 64), ["cfg 1 in place of 4"]),
        (
            Setting(SETTING.architecture, "0" * 64, 4.5, 64, 64),
            ["cfg 4.5 in place of 4", "64 x 64 px in place of 128 x 64"],
        ),
    ],
)
def test_difference_from_what_was_fitted_is_said(other, said):
    assert SETTING.differences(other) == said
