"""`make bench` runs all benchmarks and prints their results; `python -m benchmarks NAME ...` runs some of them."""

import argparse

from benchmarks import attack, browser_tabs, exporting, frames, load, loop, opening, painting, tutorial

BENCHMARKS = {
    each.__name__.rpartition(".")[2]: each
    for each in (loop, tutorial, exporting, frames, load, attack, opening, painting, browser_tabs)
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the app.")
    parser.add_argument("name", nargs="*", help=f"one of {', '.join(BENCHMARKS)}; default: all")
    names = parser.parse_args().name or list(BENCHMARKS)
    if unknown := [name for name in names if name not in BENCHMARKS]:
        parser.error(f"NAME must be one of {', '.join(BENCHMARKS)}, not {unknown[0]}")
    for name in names:
        print(f"\n{(BENCHMARKS[name].__doc__ or '').splitlines()[0]}")
        BENCHMARKS[name].run()
