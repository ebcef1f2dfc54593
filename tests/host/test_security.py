"""While a graph runs, from files to a picture: no connection, no program, no file but its own.

In a child, forked from the host in this process, under an audit hook.
"""

import os
import sys

import pytest

from lumina_next.benchmarks.faults.bounds import WRITING, in_child
from lumina_next.tests.support import tiny

# asyncio makes a pair of sockets, "socket.__new__", which connect to nothing but each other.
FORBIDDEN = ("socket.connect", "socket.bind", "socket.get", "socket.send", "urllib.", "http.")
FORBIDDEN += ("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "webbrowser.")


class Watch:
    """Notes what a graph may not do. folder: where its files go."""

    def __init__(self, folder):
        self.folder, self.noted = str(folder), []

    def __call__(self, event, arguments):
        if event.startswith(FORBIDDEN) or self.writes_elsewhere(event, arguments):
            self.noted.append(f"{event}: {arguments!r}"[:200])

    def writes_elsewhere(self, event, arguments):
        if event != "open" or not isinstance(arguments[2], int) or not arguments[2] & WRITING:
            return False
        path = arguments[0]
        return isinstance(path, str) and path != os.devnull and not path.startswith(self.folder)


def noted_during(host, action):
    """What a hook notes while action() runs in a child; None if nothing."""

    def watched():
        watch = Watch(host.output)
        sys.addaudithook(watch)
        action()
        return "; ".join(watch.noted) or None

    return in_child(watched)


@pytest.fixture
def graph(host, folder):
    tiny.write_gemma(host)
    return tiny.graph()


def test_graph_opens_no_connection_and_writes_its_output_only(host, graph):
    before = set(host.output.iterdir())
    assert noted_during(host, lambda: host.run(graph)) is None
    assert len(set(host.output.iterdir()) - before) == 1


@pytest.mark.parametrize(
    "action, noted",
    [
        (lambda: __import__("socket").create_connection(("127.0.0.1", 9)), "socket.connect"),
        (lambda: open("/dev/shm/outside", "w").close(), "open"),
        (lambda: os.system("true"), "os.system"),
    ],
    ids=["connection", "file", "program"],
)
def test_hook_notices(host, action, noted):
    def tried():
        try:
            action()
        except OSError:
            pass

    assert noted in noted_during(host, tried)
