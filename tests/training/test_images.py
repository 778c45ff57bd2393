"""What a run knows of its images, at whichever place they are met again."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from simroot.data import ImageData, from_arrays, load
from simroot.errors import CheckpointError, ConfigError, DataError
from simroot.training import Run, chosen_images, evaluate, load_run, recipe, resume, train
from simroot.training.images import IMAGES, KEPT
from training.support import QUICK, small_data

ONCE = recipe(**{**QUICK.to_dict(), "epochs": 1})


def images(folder: Path, count: int = 10, seed: int = 0, names: str = "abc", size: int = 8) -> Path:
    """Class folders of noise."""
    generator = np.random.default_rng(seed)
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = generator.integers(0, 256, (size, size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{seed}-{number}.png")
    return folder


def trained(folder: Path, out: Path, **arguments: object) -> Run:
    source = {"name_or_path": folder, **arguments}
    return train("tiny", load(**source), ONCE, out, data_source=source, accelerator="cpu", progress=False)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return images(tmp_path / "data")


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """With a validation part of its own."""
    images(tmp_path / "parts" / "val", 4, seed=1)
    return images(tmp_path / "parts" / "train", 10).parent


def moved(folder: Path) -> Path:
    return folder.rename(folder.with_name("moved"))


def test_validation_images_are_found_again_where_the_data_has_moved(folder: Path, out: Path) -> None:
    run = trained(folder, out)
    before = chosen_images(run)
    assert (before.title, len(before.split)) == ("data, validation images", 6)
    after = chosen_images(run, {"name_or_path": moved(folder)})
    assert after.title.endswith("moved, validation images")
    assert torch.equal(after.split.read(torch.arange(6)), before.split.read(torch.arange(6)))
    assert evaluate(run, after.split).loss == evaluate(run, before.split).loss
    assert (len(after.calibration), after.left_out) == (24, 0)


def test_likewise_of_a_part_of_its_own_or_a_limited_training(parts: Path, folder: Path, out: Path) -> None:
    run = trained(parts, out)
    found = chosen_images(run, {"name_or_path": moved(parts)})
    assert (found.title.split(", ")[1], len(found.split), len(found.calibration)) == ("validation images", 12, 30)
    run = trained(folder, out.with_name("limited"), limit=12)
    found = chosen_images(run, {"name_or_path": folder.rename(folder.with_name("again"))})
    assert (found.title.split(", ")[1], len(found.split), len(found.calibration)) == ("validation images", 6, 12)


def test_images_that_were_trained_on_are_left_out_and_counted(folder: Path, out: Path, tmp_path: Path) -> None:
    run = trained(folder, out)
    shutil.rmtree(folder / "b")
    images(folder, 5, seed=7, names="ac")
    found = chosen_images(run, {"name_or_path": folder})
    assert found.title == f"images of {folder}, 16 left out since they were trained on"
    assert (len(found.split), found.left_out, len(found.calibration)) == (30 - 16, 16, 16)
    assert evaluate(run, found.split).confusion[1].sum() == 0  # classes go by their names
    kept = {"a": 8, "c": 8}
    for name in kept:
        for file in (folder / name).glob("7-*"):
            file.unlink()
    known = load_file(out / IMAGES)["pixels.train"][:, 0]
    for name in kept:
        for file in (folder / name).iterdir():
            hashes = from_arrays(np.asarray(Image.open(file))[None].repeat(4, 0), [0, 1, 0, 1]).train.hashes()
            assert hashes is not None
            if hashes[0] not in known:
                file.unlink()
    with pytest.raises(DataError, match=r"all 16 images of .* were trained on, .*leave out --data"):
        chosen_images(run, {"name_or_path": folder})


def test_test_images_and_images_of_others(parts: Path, out: Path, tmp_path: Path) -> None:
    run = trained(parts, out)
    images(parts / "test", 3, seed=5)
    found = chosen_images(run, {"name_or_path": parts})
    assert (found.title, len(found.split), found.left_out) == (f"{parts}, test images", 9, 0)
    shutil.copy(parts / "train" / "a" / "0-0.png", parts / "test" / "a")
    found = chosen_images(run, {"name_or_path": parts})
    assert (len(found.split), found.left_out) == (9, 1)
    other = images(tmp_path / "other", 2, seed=9, names="cb")
    assert chosen_images(run, {"name_or_path": other}).split.labels.tolist() == [1, 1, 2, 2]
    with pytest.raises(DataError, match="classes that the network does not know: z"):
        chosen_images(run, {"name_or_path": images(other, 2, names="z")})


def test_changed_labels_pixels_and_order_are_noticed(parts: Path, out: Path) -> None:
    run = trained(parts, out)
    (parts / "val/a").rename(parts / "val/x")
    (parts / "val/b").rename(parts / "val/a")
    (parts / "val/x").rename(parts / "val/b")
    with pytest.raises(DataError, match="8 of its 12 validation images have other labels"):
        chosen_images(run)
    with pytest.raises(DataError, match="8 of its 12 validation images have other labels"):
        resume(out)
    (parts / "val/a").rename(parts / "val/x")
    (parts / "val/b").rename(parts / "val/a")
    (parts / "val/x").rename(parts / "val/b")
    chosen_images(run)
    (parts / "train/a/0-0.png").rename(parts / "train/a/9-9.png")
    with pytest.raises(DataError, match="its training images come in another order"):
        chosen_images(run)
    Image.new("RGB", (8, 8)).save(parts / "train/a/9-9.png")
    with pytest.raises(DataError, match="1 of its 30 training images are others"):
        chosen_images(run)


def test_a_resumed_run_records_where_its_data_lies_now(folder: Path, out: Path) -> None:
    trained(folder, out)
    source = {"name_or_path": moved(folder)}
    resume(out, data=load(**source), data_source=source, progress=False)  # type: ignore[arg-type]
    assert yaml.safe_load((out / "config.yaml").read_text())["data"]["source"] == {k: str(v) for k, v in source.items()}
    assert len(chosen_images(load_run(out)).split) == 6


@pytest.mark.parametrize("check", [True, False])
def test_large_images(tmp_path: Path, out: Path, check: bool) -> None:
    """Unless they were decoded before the training, they go by the names and sizes of their files."""
    folder = images(tmp_path / "data", 5, size=70)
    run = trained(folder, out, image_size=70, check=check)
    assert set(load_file(out / IMAGES)) == {f"{'pixels' if check else 'names'}.{part}" for part in ("train", "val")}
    new = images(moved(folder), 1, seed=3, size=70)
    found = chosen_images(run, {"name_or_path": new})
    assert (len(found.split), found.left_out) == (6, 12)


def test_a_run_of_before(folder: Path, out: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = trained(folder, out)
    (out / IMAGES).unlink()
    assert len(chosen_images(run).split) == 6
    assert len(chosen_images(run, {"name_or_path": folder}).split) == 30
    assert "does not know its training images: some of these may be among them" in caplog.text


@pytest.mark.parametrize("content", [b"", b"damaged", {"pixels.train": torch.zeros(3)}, {"x": torch.zeros(3, 2)}])
def test_damaged_hashes(folder: Path, out: Path, content: bytes | dict[str, torch.Tensor]) -> None:
    run = trained(folder, out)
    if isinstance(content, bytes):
        (out / IMAGES).write_bytes(content)
    else:
        save_file(content, out / IMAGES)
    with pytest.raises(CheckpointError, match=r"images\.safetensors is damaged"):
        chosen_images(run)


def test_grey_images_for_a_network_in_colour(
    folder: Path, out: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = trained(folder, out)
    grey = tmp_path / "grey" / "b"
    grey.mkdir(parents=True)
    Image.new("L", (8, 8), 77).save(grey / "1.png")
    found = chosen_images(run, {"name_or_path": grey.parent}).split
    assert found.read(torch.tensor([0])).shape == (1, 3, 8, 8)
    assert "the images are grey: made in colour" in caplog.text


def test_copies_among_the_validation_images_are_told(out: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = small_data()
    assert data.train.images is not None
    both = from_arrays(data.train.images, data.train.labels, val_images=data.train.images[:5], val_labels=[0] * 5)
    train("tiny", both, ONCE, out, accelerator="cpu", progress=False)
    assert "5 of the 5 validation images are training images, too" in caplog.text


def test_a_run_on_arrays_keeps_validation_images(data: ImageData, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = train("tiny", data, ONCE, out, accelerator="cpu", progress=False)
    found = chosen_images(run)
    assert found.title == "arrays, validation images"
    assert evaluate(run, found.split).loss == evaluate(run, data.val).loss
    assert len(found.calibration) == len(data.train)
    monkeypatch.setattr("simroot.training.images._MOST_KEPT", 10 * 8 * 8 * 3)
    run = train("tiny", data, ONCE, out.with_name("few"), accelerator="cpu", progress=False)
    assert chosen_images(run).title == "arrays, 10 of 22 validation images"
    save_file({"val.images": torch.zeros(2, 3, 8, 8)}, run.path / KEPT)
    with pytest.raises(CheckpointError, match=r"kept\.safetensors is damaged"):
        chosen_images(run)
    (run.path / KEPT).unlink()
    with pytest.raises(ConfigError, match="does not say where its images came from and keeps none"):
        chosen_images(run)
