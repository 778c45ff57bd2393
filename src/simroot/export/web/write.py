"""``simroot export --format web``: a folder that a web server serves as it is."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from simroot.engines.host import channels_last
from simroot.engines.wasm import FILE, WasmProgram
from simroot.errors import ConfigError
from simroot.export.c.write import Arithmetic, arithmetic_of, held, prefix, write_text
from simroot.export.checked import Exported, Job, Options
from simroot.export.folder import folder_appearing
from simroot.export.sidecar import CLASSES, described
from simroot.export.web.compiled import compile_module, require
from simroot.export.web.packed import unpacking

if TYPE_CHECKING:
    from typing_extensions import Unpack

_UNPACK = """
    static int unpacked;
    if (!unpacked) {
        sr_unpack();
        unpacked = 1;
    }"""
PAGE = ("index.html", "simroot.js", "simroot.d.ts")


def to_web(model: nn.Module, path: str | Path, input_size: Sequence[int], **options: Unpack[Options]) -> Exported:
    """Write a folder with a page that classifies pictures in the browser, and the network as WebAssembly.

    The scores of the module, run by Wasmtime, are compared with the network's.

    Args:
        model: any network of (1, *input_size) -> (1, classes) whose layers have a C form; it stays as it is.
        path: the folder; an earlier export there is replaced.
        input_size: shape of one image, (C, H, W).
        **options: see ``simroot.export.Options``; mean and std are needed, ``custom_operator`` has no meaning here.

    Raises:
        ConfigError: for a network that takes no pictures, a layer that has no C form, options that do not fit, or if
            the compiler or Wasmtime is not installed.
        ExportError: if the scores are not the network's, or the folder cannot be written; an earlier one stays then.
    """
    path = Path(path)
    job, arithmetic = _job(model, path, input_size, path.suffix, options)
    if not _takes_pictures(job):
        raise ConfigError(
            "a page needs a network of pictures, pixels of one or three channels with mean and std; export a run"
        )
    with folder_appearing(path, "index.html", lambda found: {*PAGE, FILE, f"{FILE}.json", CLASSES}) as folder:
        for name in PAGE:
            text = resources.files("simroot.export.web").joinpath("page", name).read_text(encoding="utf-8")
            (folder / name).write_text(re.sub(r"\n\s+", "\n", text), encoding="utf-8")  # a visitor reads no indentation
        exported = _written(job, arithmetic, folder / FILE, options, inside=True)
        return replace(exported, size=sum(file.stat().st_size for file in folder.iterdir()))


def to_wasm(model: nn.Module, path: str | Path, input_size: Sequence[int], **options: Unpack[Options]) -> Exported:
    """Write a network as WebAssembly alone, ``.wasm`` with its JSON; arguments and errors as ``to_web``.

    It may take float32 in place of pixels.
    """
    job, arithmetic = _job(model, path, input_size, ".wasm", options)
    with job.appearing() as temporary:
        return _written(job, arithmetic, temporary, options)


def _job(
    model: nn.Module, path: str | Path, input_size: Sequence[int], suffix: str, options: Options
) -> tuple[Job, Arithmetic]:
    require()
    if options.get("custom_operator", False):
        raise ConfigError("the custom operator is for ONNX and OpenVINO; WebAssembly has similarities of its own")
    job = Job.of(model, path, input_size, suffix, options)
    cost = job.description.cost
    if cost is not None:  # what each layer costs would be a large part of the page
        job = replace(job, description=replace(job.description, cost={**cost, "layers": []}))
    arithmetic = arithmetic_of(model, job, by_rows=False)  # a visitor waits for code, memory is there
    arithmetic.program.numbers = []
    return job, arithmetic


def _takes_pictures(job: Job) -> bool:
    return job.description.takes_pixels and job.description.input_size[0] in (1, 3)


def _written(job: Job, arithmetic: Arithmetic, module: Path, options: Options, inside: bool = False) -> Exported:
    with tempfile.TemporaryDirectory(prefix="simroot-web-") as room:
        write_text(job, arithmetic, Path(room))
        background = ", ".join(map(str, job.description.background))
        fields: dict[str, Any] = {
            "input": arithmetic.input_type,
            "background": background,
            "unpacking": "",
            "unpack": "",
        }
        if arithmetic.program.numbers:
            fields["unpacking"] = unpacking(prefix(job), np.concatenate(arithmetic.program.numbers))
            fields["unpack"] = _UNPACK
        compile_module(Path(room), prefix(job), module, _takes_pictures(job), **fields)
    program = WasmProgram(module, "uint8" if job.description.takes_pixels else "float32")
    run = held(lambda batch: program.scores(channels_last(batch)), job, arithmetic)
    more = {"data": name} if (name := options.get("data")) else {}
    return described(job.checked(module, "web", run), module, inside=inside, more=more)
