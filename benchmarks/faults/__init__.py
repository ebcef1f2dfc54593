"""What happens when something goes wrong: damaged files, odd graphs, faults while a job runs, load.

    python -m benchmarks.faults                 everything, an hour on two cores
    python -m benchmarks.faults files graphs    these kinds alone; the others keep their results
    python -m benchmarks.faults --share 0.05    a part of each

Each kind is a module, some in jobs/ and writing/, that yields a `Tally` for each of its rows. The
table counts what was tried; what was right; what was wrong; and what was lost, a job or a file that
nobody knows of afterward. Writes benchmarks/results/faults.json. It needs what the tests need,
whose models, mutations and client it uses, and runs on Linux.
"""
