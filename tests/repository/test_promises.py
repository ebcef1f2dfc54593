"""What our pages say exists: files, sections, commands, names in Python, and error messages.

The pages are README.md, also in Chinese, CONTRIBUTING.md, SECURITY.md, demo/README.md and docs/.
Links, `code` in backquotes and tables are checked here; tests/host/test_documents.py runs the
programs.
"""

import ast
import importlib
import importlib.util
import re

import pytest

from lumina_next.tools.environment import ROOT

README = ROOT / "README.md"
CHINESE = ROOT / "README.zh.md"
TROUBLESHOOTING = ROOT / "docs" / "troubleshooting.md"
PAGES = [
    README,
    CHINESE,
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "demo" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
FOLDERS = "benchmarks demo docs host locales lumina nodes tests tools web workflows".split()
TARGETS = re.search(r"^\.PHONY:(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()


def each_of(find):
    """What `find` finds on the pages, as parameters named by page."""
    found = [(page, match) for page in PAGES for match in find(page.read_text("utf-8"))]
    assert found, f"{find.__name__} finds nothing: the pages have another form"
    return [pytest.param(*pair, id=f"{pair[0].name}: {pair[1]}") for pair in found]


def links(text):
    prose = re.sub(r"`[^`\n]*`", "", text)
    return re.findall(r"\]\((?!https://)([^)]+)\)", prose)


def modules(text):
    """Names of the modules that are run by `python -m`."""
    return re.findall(r"python3? -m ([\w.]+)", text)


def targets(text):
    """What `make` is told to make, at the start of a line or of a piece of code."""
    return re.findall(r"(?:^|`)make ([\w-]+)", text, re.MULTILINE)


def paths(text):
    """Files and folders of ours in backquotes; `*` stands for any name."""
    return re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./*-]*)`", text)


def python_names(text):
    """Dotted names of ours in backquotes."""
    return re.findall(r"`(lumina(?:\.\w+)+)`", text)


def error_rows(text):
    """The rows of every table of errors."""
    tables = re.findall(
        r"^\| (?:What you see|看到的信息) \|.*\n.*\n((?:\|.*\n?)+)", text, re.MULTILINE
    )
    return [row for table in tables for row in table.splitlines()]


def quoted_errors(text):
    return [
        quote for row in error_rows(text) for quote in re.findall("`([^`]+)`", row.split("|")[1])
    ]


def anchors(text):
    """The names that GitHub gives to the headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def leads_somewhere(page, link):
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    return target.exists() and (not anchor or anchor in anchors(target.read_text("utf-8")))


def is_module(name):
    """Whether `python -m name` finds something to run, in the repository or installed."""
    if name.split(".")[0] not in FOLDERS:
        return importlib.util.find_spec(name) is not None
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


def exists_in_python(name):
    module, _, attribute = f"lumina_next.{name}".rpartition(".")
    return hasattr(importlib.import_module(module), attribute)


def texts_in_code():
    """Every string that is written in the pack's code, pieces of f-strings included."""
    files = [path for layer in ("lumina", "host", "nodes") for path in (ROOT / layer).rglob("*.py")]
    for path in [ROOT / "__init__.py", *files]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


TEXTS = list(texts_in_code())


def is_written_in_code(quote):
    return any(quote in text for text in TEXTS)


@pytest.mark.parametrize("page, link", each_of(links))
def test_link_leads_somewhere(page, link):
    assert leads_somewhere(page, link)


@pytest.mark.parametrize("page, name", each_of(modules))
def test_module_can_be_run(page, name):
    assert is_module(name)


@pytest.mark.parametrize("page, target", each_of(targets))
def test_make_has_the_target(page, target):
    assert target in TARGETS


@pytest.mark.parametrize("page, path", each_of(paths))
def test_path_is_in_the_repository(page, path):
    assert any(ROOT.glob(path.rstrip("/")))


@pytest.mark.parametrize("page, name", each_of(python_names))
def test_name_can_be_imported(page, name):
    assert exists_in_python(name)


@pytest.mark.parametrize("page, quote", each_of(quoted_errors))
def test_quoted_message_is_one_of_ours(page, quote):
    assert is_written_in_code(quote)


def test_what_does_not_exist_is_found_out():
    assert not leads_somewhere(README, "docs/absent.md")
    assert not leads_somewhere(README, "docs/measurements.md#absent")
    assert not leads_somewhere(README, "#absent")
    assert not is_module("demo.absent") and not is_module("demo.scenes")
    assert not exists_in_python("lumina.checkpoints.absent")
    assert not is_written_in_code("is an absent message")
    assert "absent" not in TARGETS and not any(ROOT.glob("demo/absent*"))


def test_readme_fits_on_a_page():
    assert len(README.read_text("utf-8").splitlines()) < 150


def test_errors_in_the_readme_are_the_same_in_the_whole_table():
    few, all_of_them = (error_rows(page.read_text("utf-8")) for page in (README, TROUBLESHOOTING))
    assert set(few) < set(all_of_them)


def test_readme_has_a_row_for_each_help_page():
    assert explained_nodes(README, ".md") == sorted(
        page.stem for page in ROOT.glob("web/docs/*.md")
    )


def explained_nodes(page, ending):
    """Nodes whose help pages stand in the table of nodes, by what their addresses end in."""
    row = rf"^\| \[[^]]+\]\(web/docs/(\w+){re.escape(ending)}\) \|"
    return sorted(re.findall(row, page.read_text("utf-8"), re.M))


def test_chinese_readme_has_the_nodes_errors_and_commands_of_the_english_one():
    assert explained_nodes(CHINESE, "/zh.md") == explained_nodes(README, ".md")
    english, chinese = (page.read_text("utf-8") for page in (README, CHINESE))
    for find in (quoted_errors, targets, paths):
        assert find(chinese) == find(english)
    assert len(re.findall("^## ", chinese, re.M)) == len(re.findall("^## ", english, re.M))
    addresses = (re.findall(r"\]\((https://[^)]+)\)", text) for text in (english, chinese))
    assert len({tuple(sorted(found)) for found in addresses}) == 1


def test_readmes_lead_to_each_other():
    assert "README.zh.md" in links(README.read_text("utf-8"))
    assert "README.md" in links(CHINESE.read_text("utf-8"))
