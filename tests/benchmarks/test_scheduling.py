"""Pictures over servers that fail: each is drawn once, in order, whoever is lost meanwhile."""

import importlib
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lumina_next.tools import environment


@pytest.fixture
def scheduling():
    return importlib.import_module("benchmarks.scheduling")


class FakeFleet:
    """Servers without machines.

    ends(server, job, count): what comes of a job, the server's picture number `count`. chosen:
    which of the busy servers is done next, by number; the first where the list is at its end.
    """

    def __init__(self, count, ends=None, chosen=()):
        self.servers = [f"server {n + 1}" for n in range(count)]
        self.ends = ends or (lambda server, job, count: picture(job))
        self.chosen = list(chosen)
        self.busy, self.started, self.lost = {}, Counter(), set()

    def start(self, server, job):
        assert server not in self.busy, "one picture at a time"
        assert server not in self.lost, "a lost server gets nothing"
        self.busy[server] = job
        self.started[server] += 1

    def next_done(self):
        turn = self.chosen.pop(0) if self.chosen else 0
        server = list(self.busy)[turn % len(self.busy)]
        outcome = self.ends(server, self.busy.pop(server), self.started[server])
        if type(outcome).__name__ == "ServerLost":
            self.lost.add(server)
        return server, outcome


def picture(job):
    return f"{job.prompt}, {job.seed}".encode()


@pytest.fixture
def wanted(scheduling):
    return scheduling.jobs(["a cat", "a dog", "a fox"], range(3))


def test_jobs_are_every_prompt_with_every_seed_in_order(wanted):
    assert [(job.prompt, job.seed) for job in wanted[:4]] == [
        ("a cat", 0), ("a cat", 1), ("a cat", 2), ("a dog", 0),
    ]  # fmt: skip
    assert [job.number for job in wanted] == list(range(9))


def drawn(scheduling, wanted, fleet):
    results = list(scheduling.in_order(scheduling.draw_all(wanted, fleet)))
    assert [result.job for result in results] == list(wanted)
    return results


@pytest.mark.parametrize("count", [1, 3, 20])
def test_every_picture_is_drawn_once_and_in_order(scheduling, wanted, count):
    fleet = FakeFleet(count, chosen=[2, 1, 0, 2])
    results = drawn(scheduling, wanted, fleet)
    assert [result.picture for result in results] == [picture(job) for job in wanted]
    assert fleet.started.total() == len(wanted)


def test_faster_server_draws_more(scheduling, wanted):
    fleet = FakeFleet(2, chosen=[1] * 20)  # the second is always done first
    drawn(scheduling, wanted, fleet)
    assert fleet.started["server 2"] > fleet.started["server 1"]


def lost_at(scheduling, losses):
    """Servers that are lost with their picture of that number."""

    def ends(server, job, count):
        lost = losses.get(server) == count
        return scheduling.ServerLost("gone") if lost else picture(job)

    return ends


def test_job_of_a_lost_server_is_drawn_by_another(scheduling, wanted):
    fleet = FakeFleet(3, lost_at(scheduling, {"server 1": 2}))
    results = drawn(scheduling, wanted, fleet)
    assert [result.picture for result in results] == [picture(job) for job in wanted]
    assert fleet.started.total() == len(wanted) + 1


@settings(max_examples=60, deadline=None)
@given(
    losses=st.dictionaries(st.sampled_from(["server 1", "server 2"]), st.integers(1, 4)),
    chosen=st.lists(st.integers(0, 2), max_size=20),
)
def test_whichever_servers_are_lost_no_picture_is_while_one_is_left(losses, chosen):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(environment.ROOT)
        scheduling = importlib.import_module("benchmarks.scheduling")
    wanted = scheduling.jobs(["a cat", "a dog", "a fox"], range(4))
    fleet = FakeFleet(4, lost_at(scheduling, losses), chosen)
    results = drawn(scheduling, wanted, fleet)
    twice = [result for result in results if result.picture is None]
    assert all(result.reason == "gone" for result in twice) and len(twice) <= 1
    assert all(r.picture == picture(r.job) for r in results if r.picture is not None)


def test_nothing_is_left_out_in_silence_when_all_are_lost(scheduling, wanted):
    ends = lost_at(scheduling, {"server 1": 1, "server 2": 3})
    with pytest.raises(RuntimeError, match="All servers are lost, and 7 pictures are missing"):
        drawn(scheduling, wanted, FakeFleet(2, ends))


def test_job_that_ends_servers_is_given_up_and_the_rest_is_drawn(scheduling, wanted):
    def ends(server, job, count):
        return scheduling.ServerLost("out of memory") if job.number == 1 else picture(job)

    fleet = FakeFleet(3, ends)
    results = drawn(scheduling, wanted, fleet)
    assert [result.job.number for result in results if result.picture is None] == [1]
    assert results[1].reason == "out of memory" and len(fleet.lost) == 2


def test_job_that_fails_is_tried_again_once(scheduling, wanted):
    failures = Counter()

    def ends(server, job, count):
        failures[job.number] += 1
        if job.number == 4 or (job.number == 2 and failures[2] == 1):
            return RuntimeError("the VAE is missing")
        return picture(job)

    results = drawn(scheduling, wanted, FakeFleet(3, ends))
    assert [(r.job.number, r.reason) for r in results if r.picture is None] == [
        (4, "the VAE is missing")
    ]
    assert failures[2] == failures[4] == 2


def test_picture_is_handed_on_as_soon_as_those_before_it_are_there(scheduling, wanted):
    order = [2, 0, 1, 3]
    results = [scheduling.Drawn(wanted[number], "server 1", b"") for number in order]
    seen = []

    def watched():
        for result in results:
            yield result
            seen.append(None)

    numbers = [(r.job.number, len(seen)) for r in scheduling.in_order(watched())]
    assert numbers == [(0, 1), (1, 2), (2, 2), (3, 3)]
