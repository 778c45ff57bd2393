"""What each layer of a trained network sees: scale, conditioning, gradient, and what a linear classifier reads off it.

    python benchmarks/conditioning.py runs/simnet2-cifar10-1 --data cifar10 --out results/conditioning.json

For the output of every convolution, similarity and normalisation: the deviation over images and positions, the share
of the variance in its largest direction, the condition number of its correlations (1: white), the size of the
loss's gradient, and the validation accuracy of logistic regression on its averages over a 2 x 2 grid. A layer that
is badly conditioned shows in the third and fourth column, one that has lost the classes in the last. The title has
the network's own accuracy on both sets of images, evenly spread over the data, without augmentation.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Column, Table
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional as F

from simroot.data import Split, load, normalise
from simroot.layers import FoldedNorm2d, NormalisedConv2d, Similarity2d
from simroot.training import Run, load_run


def main(argv: Sequence[str] | None = None) -> int:
    """Look into the run's network and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", help="name or path of the images (default: those of the run)")
    parser.add_argument("--train", type=int, default=5_000, help="images for the classifiers (default: %(default)s)")
    parser.add_argument("--validation", type=int, default=2_000, help="images to test them (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args(argv)
    run = load_run(arguments.run)
    source = dict(run.config["data"]["source"]) if arguments.data is None else {"name_or_path": arguments.data}
    data = load(**source)
    count = {"train": min(arguments.train, len(data.train)), "validation": min(arguments.validation, len(data.val))}
    train, train_labels = _images(run, data.train, count["train"])
    validation, labels = _images(run, data.val, count["validation"])
    seen = _outputs(run.model, validation)
    gradients = _gradients(run.model, validation[:256], labels[:256])
    features = _features(run.model, train)
    rows = []
    for name, output in seen.items():
        classifier = _probe(features[name], train_labels, _pooled(output), labels)
        rows.append({"layer": name, **_statistics(output), "gradient": gradients[name], "linear_accuracy": classifier})
    accuracy = {
        "train": _accuracy(run.model, train, train_labels),
        "validation": _accuracy(run.model, validation, labels),
    }
    _print(f"{run.model_name}: {accuracy['train']:.1%} of training, {accuracy['validation']:.1%} of validation", rows)
    if arguments.out:
        text = json.dumps({"model": run.model_name, "images": count, "accuracy": accuracy, "rows": rows}, indent=1)
        arguments.out.write_text(text + "\n", encoding="utf-8")
    return 0


def _images(run: Run, split: Split, count: int) -> tuple[Tensor, Tensor]:
    indices = torch.linspace(0, len(split) - 1, count).long()
    return normalise(split.read(indices), run.mean, run.std), split.labels[indices]


def _layers(model: nn.Module) -> dict[str, nn.Module]:
    inside = {id(module.norm) for module in model.modules() if isinstance(module, NormalisedConv2d)}
    kinds = (nn.Conv2d, Similarity2d, FoldedNorm2d, nn.ReLU)
    return {name: m for name, m in model.named_modules() if isinstance(m, kinds) and id(m) not in inside}


def _record(model: nn.Module, images: Tensor, found: dict[str, Tensor]) -> Tensor:
    def keep(name: str) -> Any:
        return lambda module, inputs, output: found.__setitem__(name, output)

    handles = [module.register_forward_hook(keep(name)) for name, module in _layers(model).items()]
    try:
        scores: Tensor = model(images)
    finally:
        for handle in handles:
            handle.remove()
    return scores


@torch.no_grad()
def _outputs(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    parts: dict[str, list[Tensor]] = {}
    for batch in images.split(250):
        found: dict[str, Tensor] = {}
        _record(model, batch, found)
        for name, output in found.items():
            parts.setdefault(name, []).append(output if output.ndim == 4 else output[:, :, None, None])
    return {name: torch.cat(part) for name, part in parts.items()}


def _features(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    parts: dict[str, list[Tensor]] = {}
    for batch in images.split(250):
        for name, output in _outputs(model, batch).items():
            parts.setdefault(name, []).append(_pooled(output))
    return {name: torch.cat(part) for name, part in parts.items()}


def _pooled(output: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(output, 2).flatten(1)


def _gradients(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Root mean square of the gradient of the summed loss by each output."""
    found: dict[str, Tensor] = {}
    loss = F.cross_entropy(_record(model, images, found), labels, reduction="sum")
    gradients = torch.autograd.grad(loss, list(found.values()))
    return {name: float(g.square().mean().sqrt()) for name, g in zip(found, gradients, strict=True)}


@torch.no_grad()
def _accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    scores = torch.cat([model(batch) for batch in images.split(250)])
    return float((scores.argmax(1) == labels).float().mean())


def _statistics(output: Tensor) -> dict[str, float]:
    rows = output.transpose(0, 1).flatten(1).double()
    covariance = torch.linalg.eigvalsh(torch.cov(rows))
    correlations = torch.linalg.eigvalsh(torch.corrcoef(rows[rows.std(1) > 0]))
    return {
        "std": float(rows.std(1).mean()),
        "largest_share": float(covariance[-1] / covariance.sum()),
        "condition": float(correlations[-1] / correlations[0].clamp_min(1e-12)),
    }


def _probe(train: Tensor, train_labels: Tensor, validation: Tensor, labels: Tensor) -> float:
    scaler = StandardScaler().fit(train.numpy())
    classifier = LogisticRegression(C=0.1, max_iter=200).fit(scaler.transform(train.numpy()), train_labels.numpy())
    return float(classifier.score(scaler.transform(validation.numpy()), labels.numpy()))


def _print(title: str, rows: list[dict[str, Any]]) -> None:
    table = Table(
        Column("output of", overflow="fold"),
        "std",
        "largest share",
        "condition",
        "gradient",
        "linear accuracy",
        title=title,
    )
    for row in rows:
        table.add_row(
            row["layer"],
            f"{row['std']:.3g}",
            f"{row['largest_share']:.1%}",
            f"{row['condition']:.3g}",
            f"{row['gradient']:.2e}",
            f"{row['linear_accuracy']:.1%}",
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
