"""The command line: `python -m export run LESSON ... --out DIR`, `verify DIR`,
`inspect FILE.onnx|DIR` and `publish DIR --repo NAME`.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: small nets lose time to threads
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # before huggingface_hub is: the Hub is told what is published, no more

import argparse
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import Progress

from charts.text import said
from export import bundle, manifest, publish
from export.bundle import Bundle, ForeignFolderError, NonFiniteError
from export.formats import BrokenFileError
from export.graph import ExportError
from export.inspection import inspect_bundle, inspect_file
from export.publish import HubError
from export.results import Exit, Result, print_all, print_overview, worst
from export.verify import find, verify
from nets import TRAININGS
from nets.settings import SettingError, shown
from nets.training import Trainer


class UsageError(ValueError):
    """Words on the command line that break a rule; the message is one sentence."""


class Parser(argparse.ArgumentParser):
    """argparse, which ends with 2 on bad usage, where here 2 says that parity failed, and guesses shortened options."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        raise UsageError(f"{message}.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code says how it ended."""
    as_json = "--json" in (sys.argv if arguments is None else arguments)
    try:
        options = _parser().parse_args(arguments)
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            if options.command == "run":
                results = _run(options.lesson, options.set, options.out, progress)
            elif options.command == "inspect":
                results = _inspect(options.path)
            elif options.command == "publish":
                results = _publish(options.folder, options.repo, options.private, options.dry_run, progress)
            else:
                results = _verify(options.folder, progress)
    except (UsageError, SettingError, ForeignFolderError) as error:
        return _refuse(str(error), Exit.USAGE, as_json)
    except OSError as error:
        return _refuse(f"DIR must be a folder that can be written and read: {error}.", Exit.USAGE, as_json)
    except ExportError as error:
        return _refuse(str(error), Exit.PARITY, as_json)
    except NonFiniteError as error:
        return _refuse(str(error), Exit.NON_FINITE, as_json)
    except HubError as error:
        return _refuse(str(error), Exit.HUB, as_json)
    if as_json:
        print(json.dumps([result.to_dict() for result in results], indent=2, allow_nan=False))
    else:
        out = Console(width=None if sys.stdout.isatty() else 120, markup=False, highlight=False)
        verified = options.command in ("run", "verify")
        (print_overview if verified and len(results) > 1 else print_all)(results, out)
    return worst(results)


def _refuse(message: str, code: Exit, as_json: bool) -> Exit:
    print(f"error: {message}", file=sys.stderr)
    if as_json:
        print(json.dumps([{"exit": int(code), "error": message}], indent=2))
    return code


def _parser() -> Parser:
    parser = Parser(
        prog="python -m export",
        description="Train a lesson's nets and carry them elsewhere.",
        epilog="Ends with 0: ok, 1: bad usage, 2: parity failed, 3: broken or altered file, 4: non-finite weights,"
        " 5: the Hub refused or could not be reached.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="run|verify|inspect|publish")
    run = commands.add_parser("run", help="train a lesson and write its bundles")
    run.add_argument("lesson", help=f"one of {', '.join(TRAININGS)}")
    run.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting; repeatable")
    run.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the bundles go")
    check = commands.add_parser("verify", help="re-check every bundle under a folder")
    check.add_argument("folder", type=Path, metavar="DIR")
    look = commands.add_parser("inspect", help="tell what an ONNX file or a bundle holds; of a file, run its own test")
    look.add_argument("path", type=Path, metavar="FILE.onnx|DIR")
    send = commands.add_parser("publish", help="send a bundle to the Hugging Face Hub, once it is verified")
    send.add_argument("folder", type=Path, metavar="DIR")
    send.add_argument("--repo", required=True, metavar="NAME", help="a model repo: USER/NAME, or NAME for your own")
    send.add_argument("--private", action="store_true", help="if the repo is created, let nobody else see it")
    send.add_argument("--dry-run", action="store_true", help="tell what would be sent, and send nothing")
    for command in (run, check, look, send):
        command.add_argument("--json", action="store_true", help="print the report as JSON")
    return parser


def _run(key: str, settings: Sequence[str], out: Path, progress: Progress) -> list[Result]:
    if key not in TRAININGS:
        raise UsageError(f"lesson must be one of {', '.join(TRAININGS)}, not {_shown(key)}.")
    lesson = TRAININGS[key]
    trainer = lesson.trainer(lesson.config.parse(dict(map(_setting, settings))))
    _train(trainer, lesson.title.en, progress)
    progress.add_task("Writing the files and reading them back", total=None)
    return [Result(made.folder, made) for made in bundle.write(lesson, trainer, out)]


def _setting(text: str) -> tuple[str, int | float | str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set must be NAME=VALUE, not {_shown(text)}.")
    for number in (int, float):
        try:
            return name, number(value)
        except ValueError:  # the next kind; a value that is of none stays text, which Config refuses by name
            continue
    return name, value


def _shown(value: object) -> str:
    return said(shown(value), "en")


def _train(trainer: Trainer[Any], title: str, progress: Progress) -> None:
    task = progress.add_task(f"Training {title}", total=trainer.steps)
    while not trainer.done:
        trainer.step()
        progress.update(task, completed=trainer.step_number)


def _verify(folder: Path, progress: Progress) -> list[Result]:
    if not folder.is_dir():
        raise UsageError(f"DIR must be a folder, not {str(folder)!r}.")
    found = find(folder)
    if not found:
        return [Result(folder, BrokenFileError(manifest.NAME, "is missing: there is no bundle here"))]
    return [_verify_one(each) for each in progress.track(found, description="Verifying")]


def _verify_one(folder: Path) -> Result:
    try:
        return Result(folder, verify(folder))
    except (BrokenFileError, NonFiniteError) as error:
        return Result(folder, error)


def _inspect(path: Path) -> list[Result]:
    """An ONNX file, or each bundle under a folder: its hashes first, then its ONNX file."""
    if path.is_dir():
        found = find(path)
        if not found:
            return [Result(path, BrokenFileError(manifest.NAME, "is missing: there is no bundle here"))]
        return [_inspected(each) for each in found]
    if not path.is_file():
        raise UsageError(f"FILE.onnx|DIR must be a file or a folder, not {str(path)!r}.")
    return [_inspected(path)]


def _inspected(path: Path) -> Result:
    try:
        return Result(path, inspect_bundle(path) if path.is_dir() else inspect_file(path))
    except BrokenFileError as error:
        return Result(path, error)
    except OSError as error:
        raise UsageError(f"FILE.onnx|DIR must be readable: {error}.") from error


def _publish(folder: Path, repo: str, private: bool, dry_run: bool, progress: Progress) -> list[Result]:
    endpoint = os.environ.get("HF_ENDPOINT")
    if endpoint is not None and not publish.is_address(endpoint):
        raise UsageError(f"HF_ENDPOINT must be an address with http:// or https://, not {_shown(endpoint)}.")
    if not publish.is_repo_name(repo):
        raise UsageError(
            "--repo must be USER/NAME or NAME, each of up to 96 letters, digits, '-', '_' and '.', without '-' or '.'"
            f" at an end, '--', '..', or '.git' at the last, not {_shown(repo)}."
        )
    found = find(folder)
    if found and found != [folder]:
        raise UsageError(f"DIR must be one bundle, not a folder that has {', '.join(map(str, found))}.")
    (result,) = _verify(folder, progress)
    if not isinstance(result.found, Bundle) or result.exit is not Exit.OK:
        return [result]
    progress.add_task(f"Publishing {repo}", total=None)
    try:
        publication = publish.prepare(result.found, repo, private)
        return [Result(folder, publication if dry_run else publish.send(publication))]
    except BrokenFileError as error:
        return [Result(folder, error)]


def command() -> int:
    """`main`, for a terminal: an output that cannot be written and Ctrl-C end it without a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a letter is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    try:
        code = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing more goes there, not even at exit
        return _refuse(f"the report cannot be written: {error.strerror}.", Exit.USAGE, as_json=False)
    return code


if __name__ == "__main__":
    sys.exit(command())
