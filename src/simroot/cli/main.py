"""The command ``simroot``: finds the command's module, runs it, and turns a user's mistakes into one clear line."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

import simroot
from simroot.cli.completion import add_completion
from simroot.cli.interrupts import after_imports, leaving_at_once, told
from simroot.cli.networks import add_trust, import_networks
from simroot.cli.waiting import wait_asleep
from simroot.cli.words import in_options, long_options, nearest_command, unknown_words
from simroot.errors import ConfigError, SimrootError, one_line

# Command -> what it does; each is a module of this room with add_arguments(parser) and run(arguments) -> exit code.
COMMANDS = {
    "design": "find the network that a budget of parameters, operations or time allows",
    "train": "train a network on labelled images",
    "evaluate": "measure a trained network's accuracy",
    "report": "write a page about a trained network: curves, errors, calibration, cost, files",
    "predict": "classify images with a trained network",
    "models": "list the networks that can be trained",
    "pretrain": "choose a SimNet's filters and templates from images, without labels",
    "quantise": "go on training a network as what it becomes in integers, for export --format c --int8",
    "export": "write a trained network for ONNX Runtime, OpenVINO, PyTorch or in C, checked against it",
    "bench": "measure the time of networks side by side, in one or more engines",
    "cost": "count a network's parameters and operations, layer by layer",
    "correlation": "show how the channels of two layers of a network go together",
    "rootify": "turn a network into a root network, with filter groups in its spatial convolutions",
    "reproduce": "compute a table of the papers, beside what is printed there",
    "doctor": "show versions, processor, devices and the kernels in use",
}

# The first lines of each command's help.
EXAMPLES = {
    "design": ("--parameters 20K --milliseconds 0.5", "--macs 3M --data photos/ --train"),
    "train": ("--data photos/", "--model simnet2 --recipe.epochs 30 --data photos/"),
    "evaluate": ("runs/simnet2-photos-1", "model.onnx --data more/"),
    "report": ("runs/simnet2-photos-1",),
    "predict": ("runs/simnet2-photos-1 new/ one.jpg", "model.onnx new/ --json"),
    "models": ("", "'simnet*'"),
    "pretrain": ("--data photos/ --out start",),
    "quantise": ("runs/simnet2-photos-1", "runs/simnet2-photos-1 --epochs 10 --out runs/whole"),
    "export": ("runs/simnet2-photos-1 --format onnx,openvino --int8", "runs/simnet2-photos-1 --format c"),
    "bench": ("simnet2 convnet_caffe --engine onnxruntime,openvino", "runs/simnet2-photos-1 model.onnx"),
    "cost": ("simnet2 --time", "runs/simnet2-photos-1 --device --int8"),
    "correlation": ("runs/nin_root8 --layers conv2c conv3a",),
    "rootify": ("resnet50 --degree 16", "torchvision:resnet18 --degree 8 --out rooted.safetensors"),
    "reproduce": ("", "deep-roots-table-2"),
    "doctor": ("",),
}

USAGE_ERROR = 2

# These compute for long: other programs may want the cores meanwhile.
_LONG = ("train", "quantise", "pretrain", "design", "reproduce")
# These read run directories, whose networks may be a user's own.
_OF_RUNS = ("train", "quantise", "evaluate", "report", "predict", "export", "bench", "cost", "correlation", "rootify")


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage of thirty options above it."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"{self.prog}: error: {one_line(message)} (see {self.prog} --help)\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Words that are unknown are told here, where the options that may have been meant are known."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(unknown_words(unknown, self._option_string_actions))
        return found, unknown


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: done. 1: could not be done. 2: wrong arguments or data. 128 + N: stopped by signal N.

    Args:
        argv: the words after ``simroot``; those of the process if None.

    Raises:
        SystemExit: after ``--help`` and ``--version``, and with code 2 for arguments that cannot be parsed.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    _print_any_letter()
    # What Pillow cannot read of an image's metadata is left out; its lines of source would tell nobody more.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    command = " ".join(words[:1])
    if command in _LONG:
        wait_asleep()
    try:
        with leaving_at_once(command):
            parser = _parser(words)
        with after_imports():
            return _run(parser, words)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "simroot":
            raise
        return _fail(command, f"needs {error.name}, which is not installed; pip install 'simroot[train]' brings it")
    except BrokenPipeError:
        # The reader has gone (as in "simroot models | head"): nothing more can be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1  # as rich does when a table breaks
    except KeyboardInterrupt as error:
        return told(command, error)


def _print_any_letter() -> None:
    """Let standard output write letters that its encoding lacks as escapes: a console may know few."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    arguments = parser.parse_args(words)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except SimrootError as error:
        return _fail(arguments.command, str(error))
    except BrokenPipeError:
        raise
    except OSError as error:  # a wrong path, a full disk, wherever it is met
        return _fail(arguments.command, f"{error.strerror}: {error.filename}" if error.filename else str(error))
    return code


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="simroot",
        description="Accurate image classifiers within a budget of operations, parameters or milliseconds.",
        epilog="'simroot train' alone trains a small network on handwritten digits in under a minute.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"simroot {simroot.__version__}")
    add_completion(parser, lambda: _parser([*COMMANDS]))
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        parser.error(nearest_command(words[0], COMMANDS))
    for name, summary in COMMANDS.items():
        shown = "\n".join(f"  simroot {name} {words}".rstrip() for words in EXAMPLES[name])
        command = commands.add_parser(
            name,
            help=summary,
            description=f"{sentence(summary)}\n\nexamples:\n{shown}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        # Only the command that is called loads what its help needs: "simroot --help" must not wait for PyTorch.
        if name in words:
            module = importlib.import_module(f"simroot.cli.{name}")
            module.add_arguments(command)
            if name in _OF_RUNS:
                add_trust(command)
            command.set_defaults(run=partial(_run_with_options, command, module.run))
    return parser


def sentence(summary: str) -> str:
    """A summary as a sentence; names keep their capitals."""
    return f"{summary[:1].upper()}{summary[1:]}."


def _run_with_options(
    parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int], arguments: argparse.Namespace
) -> int:
    """Run a command; what the library says of its arguments names the options that set them."""
    import_networks(arguments)
    try:
        return run(arguments)
    except ConfigError as error:
        given = dict(vars(arguments).get("set") or [])
        raise ConfigError(in_options(str(error), long_options(parser), given)) from error


def _fail(command: str, message: str) -> int:
    print(f"simroot {command}: error: {one_line(message)}", file=sys.stderr)
    return USAGE_ERROR
