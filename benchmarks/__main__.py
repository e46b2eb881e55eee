"""`make bench`: run every benchmark and print its figures."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks import exporting, frames, load, loop, opening, painting, tutorial

if __name__ == "__main__":
    for benchmark in (loop, tutorial, exporting, frames, load, opening, painting):
        print(f"\n{(benchmark.__doc__ or '').splitlines()[0]}")
        benchmark.run()
