"""`make bench`: run every benchmark and print its figures."""

from benchmarks import attack, exporting, frames, load, loop, opening, painting, tutorial

if __name__ == "__main__":
    for benchmark in (loop, tutorial, exporting, frames, load, attack, opening, painting):
        print(f"\n{(benchmark.__doc__ or '').splitlines()[0]}")
        benchmark.run()
