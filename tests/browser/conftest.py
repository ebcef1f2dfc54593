"""The option of tests/browser that draws the README's picture of the graph anew."""


def pytest_addoption(parser):
    parser.addoption(
        "--graph-picture", metavar="FILE", help="where to save the graph as the editor shows it"
    )
