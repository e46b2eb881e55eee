"""Command line: `python -m export run LESSON ... --out DIR`, `verify DIR`, `inspect FILE.onnx|DIR` and
`publish DIR --repo NAME`.
"""

import os

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # before huggingface_hub is imported

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rich.progress import Progress

import environment
from charts.text import LANGUAGES
from export import child, layout, publish, terminal
from export.cases import BrokenFileError, ExportError, ForeignFolderError, NonFiniteError
from export.layout import find
from export.publish import HubError
from export.results import Checked, Exit, Found, Inspected, Result, print_all, print_overview, worst

if TYPE_CHECKING:
    from lab.training import Trainer


MAX_ARGUMENT_LENGTH = 40  # characters of an argument quoted in a message


class UsageError(ValueError):
    """Invalid command-line arguments. The message is one sentence."""


class Parser(argparse.ArgumentParser):
    """ArgumentParser that raises UsageError (argparse would exit with 2, here "parity failed"); no abbreviations."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        raise UsageError(f"{message}.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    argv = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in argv
    try:
        options = _parser(_lessons() if "run" in argv else "").parse_args(argv)
        with terminal.progress() as progress:
            if options.command == "run":
                results = _run(options, progress)
            elif options.command == "inspect":
                results = _inspect(options.path, progress)
            elif options.command == "publish":
                results = _publish(options.folder, options.repo, options.private, options.dry_run, progress)
            else:
                results = _verify(options.folder, options.retrain, progress)
    except (UsageError, ForeignFolderError) as error:
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
        terminal.as_json([result.to_dict() for result in results])
    else:
        verified = options.command in ("run", "verify")
        (print_overview if verified and len(results) > 1 else print_all)(results)
    return worst(results)


def _refuse(message: str, code: Exit, as_json: bool) -> Exit:
    terminal.error(message)
    if as_json:
        terminal.as_json([{"exit": int(code), "error": message}])
    return code


def _lessons() -> str:
    from nets import TRAININGS  # imports torch, which only `run` needs in this process

    return ", ".join(TRAININGS)


def _parser(lessons: str) -> Parser:
    parser = Parser(
        prog="python -m export",
        description="Train the nets of a lesson; export, verify, inspect and publish them.",
        epilog="Exit codes: 0 ok, 1 bad usage, 2 parity failed, 3 broken or altered file, 4 non-finite weights,"
        " 5 the Hub refused the request or could not be reached.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="run|verify|inspect|publish")
    run = commands.add_parser("run", help="train a lesson and write its bundles")
    run.add_argument("lesson", help=f"one of {lessons}")
    run.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting; repeatable")
    run.add_argument(
        "--change",
        action="append",
        default=[],
        metavar="STEP:NAME=VALUE",
        help="change a setting, or a weight such as net.hidden.weight.3.0, after STEP steps; repeatable",
    )
    run.add_argument("--stop", metavar="STEP", help="stop the run after STEP steps")
    run.add_argument("--out", type=Path, required=True, metavar="DIR", help="output folder for the bundles")
    run.add_argument("--lang", choices=LANGUAGES, default="en", help="the language of README.md, try.html and plot.png")
    check = commands.add_parser("verify", help="verify every bundle in a folder")
    check.add_argument("folder", type=Path, metavar="DIR")
    check.add_argument("--retrain", action="store_true", help="also repeat each training run, to check its plot")
    look = commands.add_parser(
        "inspect", help="show the contents of an ONNX file or a bundle, and run the test in its metadata"
    )
    look.add_argument("path", type=Path, metavar="FILE.onnx|DIR")
    send = commands.add_parser("publish", help="verify a bundle and upload it to the Hugging Face Hub")
    send.add_argument("folder", type=Path, metavar="DIR")
    send.add_argument(
        "--repo", required=True, metavar="NAME", help="model repo: USER/NAME, or NAME in your own account"
    )
    send.add_argument("--private", action="store_true", help="make the repo private if it is created")
    send.add_argument("--dry-run", action="store_true", help="show what would be uploaded, and upload nothing")
    for command in (run, check, look, send):
        command.add_argument("--json", action="store_true", help="print the report as JSON")
    return parser


def _run(options: argparse.Namespace, progress: Progress) -> list[Result]:
    from export import bundle
    from lab.recipe import Recipe, read_changes, read_stop
    from lab.settings import SettingError
    from lab.training import Trainer
    from nets import TRAININGS

    if options.lesson not in TRAININGS:
        raise UsageError(f"lesson must be one of {', '.join(TRAININGS)}, not {_shown(options.lesson)}.")
    lesson = TRAININGS[options.lesson]
    try:
        config = lesson.config.read(dict(map(_setting, options.set)))
        trainer = Trainer(
            lesson, Recipe(lesson.key, config, read_changes(options.change, config), read_stop(options.stop))
        )
    except SettingError as error:
        raise UsageError(str(error)) from error
    _train(trainer, lesson.title.en, progress)
    progress.add_task("Writing the files and reading them back", total=None)
    made = bundle.write(trainer, options.out, options.lang)
    return [Result(each.folder, Checked(each.manifest["metrics"], each.parity, {})) for each in made]


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set must be NAME=VALUE, not {_shown(text)}.")
    return name, value


def _shown(text: str) -> str:
    return repr(text) if len(text) <= MAX_ARGUMENT_LENGTH else f"{text[:MAX_ARGUMENT_LENGTH]!r} and so on"


def _train(trainer: "Trainer", title: str, progress: Progress) -> None:
    task = progress.add_task(f"Training {title}", total=trainer.steps)
    while not trainer.done:
        trainer.step()
        progress.update(task, completed=trainer.step_number)


def _verify(folder: Path, retrain: bool, progress: Progress) -> list[Result]:
    if not folder.is_dir():
        raise UsageError(f"DIR must be a folder, not {str(folder)!r}.")
    return _ask("retrain" if retrain else "verify", folder, progress)


def _inspect(path: Path, progress: Progress) -> list[Result]:
    """Inspect an ONNX file, or every bundle under a folder: first its hashes, then its ONNX file."""
    if path.is_dir():
        return _ask("inspect", path, progress)
    if not path.is_file():
        raise UsageError(f"FILE.onnx|DIR must be a file or a folder, not {str(path)!r}.")
    return [Result(path, _ask_one("inspect", path))]


def _ask(command: str, folder: Path, progress: Progress) -> list[Result]:
    """Results of the command for each bundle under a folder."""
    found = find(folder)
    if not found:
        return [Result(folder, BrokenFileError(layout.MANIFEST, "is missing: the folder contains no bundle"))]
    return [Result(each, _ask_one(command, each)) for each in progress.track(found, description="Reading")]


def _ask_one(command: str, path: Path) -> Found:
    try:
        found = child.ask(command, path)
    except (BrokenFileError, NonFiniteError) as error:
        return error
    return Inspected.from_dict(found) if command == "inspect" else Checked.from_dict(found)


def _publish(folder: Path, repo: str, private: bool, dry_run: bool, progress: Progress) -> list[Result]:
    endpoint = os.environ.get("HF_ENDPOINT")
    if endpoint is not None and not publish.is_address(endpoint):
        raise UsageError(f"HF_ENDPOINT must be an http:// or https:// URL, not {_shown(endpoint)}.")
    if not publish.is_repo_name(repo):
        raise UsageError(
            "--repo must be USER/NAME or NAME, each of up to 96 letters, digits, '-', '_' and '.', must not start or"
            f" end with '-' or '.', contain '--' or '..', or end with '.git', not {_shown(repo)}."
        )
    found = find(folder)
    if found and found != [folder]:
        raise UsageError(f"DIR must be one bundle, but contains {', '.join(map(str, found))}.")
    if not folder.is_dir():
        raise UsageError(f"DIR must be a folder, not {str(folder)!r}.")
    if not found:
        return [Result(folder, BrokenFileError(layout.MANIFEST, "is missing: the folder contains no bundle"))]
    progress.add_task("Verifying", total=None)
    try:
        checked = child.ask("publish", folder)
        if not checked["files"]:  # failed parity
            return [Result(folder, Checked.from_dict(checked))]
        publication = publish.prepare(checked, repo, private)
        progress.add_task(f"Publishing {repo}", total=None)
        return [Result(folder, publication if dry_run else publish.send(publication))]
    except (BrokenFileError, NonFiniteError) as error:
        return [Result(folder, error)]


def command() -> int:
    """Run `main` for a terminal, without a traceback on Ctrl-C or when stdout cannot be written."""
    environment.set_up_console()
    try:
        code = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that flushing at exit does not fail
        return _refuse(f"cannot write the report: {error.strerror}.", Exit.USAGE, as_json=False)
    return code


if __name__ == "__main__":
    sys.exit(command())
