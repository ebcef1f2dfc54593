"""The options of tests/browser that draw pictures of the documentation anew."""


def pytest_addoption(parser):
    parser.addoption(
        "--graph-picture", metavar="FILE", help="where to save the graph as the editor shows it"
    )
    parser.addoption(
        "--help-pictures", metavar="FOLDER", help="where to save the pictures of the help pages"
    )
