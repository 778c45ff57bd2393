"""Networks whose channels are chosen from the data, and the files of a pre-training."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from pretraining.support import generator, smooth_images
from simroot.errors import CheckpointError, ConfigError, DataError, SimrootError
from simroot.estimators import GeneralizedGaussianMixture, Whitening
from simroot.models import create_model
from simroot.models.simnets.architecture import SimNet
from simroot.pretraining import Report, build, pictures, read_start, save
from simroot.pretraining.forward import Sweep
from simroot.pretraining.layers import EM_TOLERANCE, LEAST_SCALE, layer_at


def built(name: str = "simnet2_small", **options: object) -> tuple[SimNet, dict[str, object], Report]:
    torch.manual_seed(0)
    common = {"num_classes": 3, "in_channels": 2, "generator": generator(), "patches": 900, "candidates": (3, 6, 9)}
    model, chosen, report = build(name, smooth_images(), **{**common, **options})  # type: ignore[arg-type]
    assert isinstance(model, SimNet)
    return model, chosen, report


def test_channels_as_they_are() -> None:
    model, chosen, report = built(overrides={"channels": (4, 6)})
    assert chosen == {"channels": (4, 6)}
    assert [layer.templates for layer in report.layers] == [4, 6]
    assert report.curves == ()
    assert list(pictures(report)) == ["layer-1", "layer-2"]
    assert [stage.templates for stage in model.stage_specs] == [4, 6]


@pytest.mark.slow
@pytest.mark.parametrize(("dimension", "components"), [("bayes", "bic"), ("mle", "aic"), (0.8, "nec")])
def test_channels_from_the_data(dimension: str | float, components: str) -> None:
    model, chosen, report = built(channels="auto", dimension=dimension, components=components)
    assert [curve.what for curve in report.curves] == ["whitened", "templates"] * 2
    sizes = [curve.chosen for curve in report.curves]
    assert chosen == {"whitened": sizes[::2], "channels": sizes[1::2]}
    assert [(layer.whitened, layer.templates) for layer in report.layers] == list(
        zip(sizes[::2], sizes[1::2], strict=True)
    )
    # what the criteria say of the patches of the first layer
    sweep = Sweep(smooth_images(), generator=generator(), patches=900)
    rows = sweep.layer_patches(model, 0).flatten(1)
    whitening = Whitening(dimension).fit(rows)
    assert sizes[0] == whitening.n_components_
    filters, templates = report.curves[:2]
    if isinstance(dimension, str):
        assert filters.values[sizes[0] - 1] == max(filters.values)
    else:
        assert filters.values[sizes[0] - 2] < dimension <= filters.values[sizes[0] - 1]
    assert templates.candidates == (3, 6, 9)
    assert templates.values[templates.candidates.index(sizes[1])] == min(templates.values)
    if components == "bic":
        options: dict[str, Any] = {"shape": 2.0, "min_scale": LEAST_SCALE, "tol": EM_TOLERANCE, "random_state": 0}
        white = whitening.transform(rows)
        bic = GeneralizedGaussianMixture(sizes[1], **options).fit(white).bic(white)
        assert min(templates.values) == pytest.approx(bic, rel=0.02)  # another start
    assert "channels" in pictures(report)


def test_the_network_is_the_one_that_was_initialised() -> None:
    """Layers before the one that is rebuilt stay as they were initialised."""
    model, chosen, _ = built(channels="auto")
    assert isinstance(model, SimNet)
    sweep = Sweep(smooth_images(), generator=generator(3), patches=900)
    for index in range(2):
        with torch.no_grad():
            white: Tensor = layer_at(model, index).conv.eval()(sweep.layer_patches(model, index)).flatten(1)
        # other patches of the same images
        assert white.mean(0).abs().max() < 0.3
        assert (white.std(0) - 1).abs().max() < 0.4
    fresh = create_model("simnet2_small", 3, 2, **chosen)
    fresh.load_state_dict(model.state_dict())


def test_groups_divide_the_channels_that_are_chosen() -> None:
    images = smooth_images(size=16)
    model, chosen, _ = build(
        "simnet2_root4",
        images,
        num_classes=3,
        in_channels=2,
        generator=generator(),
        patches=900,
        channels="auto",
        candidates=(3, 5),
        dimension=0.5,
    )
    assert isinstance(model, SimNet)
    assert model.stage_specs[0].templates % 4 == 0
    assert model.stage_specs[1].whitened % 4 == 0
    assert chosen["channels"] == [stage.templates for stage in model.stage_specs]


def test_what_cannot_be_chosen() -> None:
    with pytest.raises(DataError, match="too few for any of"):
        built(channels="auto", candidates=(2000,))
    with pytest.raises(ConfigError, match="cannot be pre-trained"):
        built("simnet2_twin")


def test_files(tmp_path: Path) -> None:
    model, chosen, report = built(overrides={"channels": [4, 6]})
    path = tmp_path / "start"
    start = save(path, "simnet2_small", chosen, model, report, {"data": {"name": "noise"}})
    assert read_start(path) == start
    assert yaml.safe_load((path / "config.yaml").read_text())["data"] == {"name": "noise"}
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in load_file(start.weights).items())
    assert [file.name for file in tmp_path.iterdir()] == ["start"]
    with pytest.raises(ConfigError, match="is in use"):
        save(path, "simnet2_small", chosen, model, report, {})
    (path / "config.yaml").write_text("model: 3")
    with pytest.raises(CheckpointError, match="is damaged"):
        read_start(path)
    (path / "config.yaml").unlink()
    with pytest.raises(CheckpointError, match="holds no pre-trained network"):
        read_start(path)


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, chosen, report = built(overrides={"channels": [4, 6]})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("simroot.pretraining.saved.save_model", full)
    with pytest.raises(SimrootError, match="No space left"):
        save(tmp_path / "start", "simnet2_small", chosen, model, report, {})
    assert list(tmp_path.iterdir()) == []


def test_templates_are_chosen_from_all_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second half of the images, as of a class of its own, is unlike the first."""
    seen: list[Tensor] = []

    def select(rows: Tensor, *_: object, **__: object) -> None:
        seen.append(rows)
        raise InterruptedError

    monkeypatch.setattr("simroot.pretraining.channels.select_components", select)
    monkeypatch.setattr("simroot.pretraining.channels._SELECTION", 300)
    images = smooth_images()
    images[len(images) // 2 :] *= 100
    with pytest.raises(InterruptedError):
        build(
            "simnet2_small", images, num_classes=3, in_channels=2, generator=generator(), patches=900, channels="auto"
        )
    large = (seen[0].norm(dim=1) > seen[0].norm(dim=1).median() * 2).double().mean()
    assert len(seen[0]) == 300
    assert 0.3 < large < 0.6


def test_an_unknown_choice_of_channels_is_refused() -> None:
    with pytest.raises(ConfigError, match="channels is 'Auto'; expected 'auto' or None"):
        built(channels="Auto")
