"""Networks of a user's own: by name, as builders, as modules, and from installed packages."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from simroot import installed
from simroot.errors import ConfigError
from simroot.models import create_model, list_models, model_entry, name_and_overrides, names_network, own, registry, use

SOURCE = '''
from torch import nn

imported = 0


def tiny(num_classes, in_channels=3, image_size=8, width=4):
    """A line about it.

    Another.
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes)
    )


class Plain(nn.Linear):
    def __init__(self, num_classes=10):
        super().__init__(4, num_classes)


def of_kind(kind):
    return nn.Identity()


def word(num_classes):
    return "a network"


def broken(num_classes):
    raise KeyError("no such weights")


network = nn.Identity()
'''
Write = Callable[[str, str], None]


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that a test makes known are unknown afterwards."""
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    before = dict(registry.SOURCES)
    monkeypatch.setattr(registry, "SOURCES", before)
    monkeypatch.setattr(own, "SOURCES", before)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a module that can be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    written = []

    def make(name: str, text: str) -> None:
        written.append(name)
        (tmp_path / f"{name}.py").write_text(text)

    yield make
    for name in written:
        sys.modules.pop(name, None)


def test_a_name_is_imported_only_when_it_is_used(write: Write) -> None:
    write("owned_nets", SOURCE)
    for ask in (model_entry, create_model):
        with pytest.raises(
            ConfigError, match=r"code from elsewhere, .*: --trust owned_nets:tiny, .*model='owned_nets:ti"
        ):
            ask("owned_nets:tiny")
    assert not names_network("owned_nets:tiny")
    assert "owned_nets" not in sys.modules
    assert use("owned_nets:tiny") == "owned_nets:tiny"
    entry = model_entry("owned_nets:tiny")
    assert (entry.summary, entry.input_size, entry.num_classes) == ("A line about it.", (3, 8, 8), 10)
    assert entry.overrides == {"image_size": 8, "width": 4}
    network = create_model("owned_nets:tiny", 5, 1, width=6)
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 5)
    assert "owned_nets:tiny" not in list_models()
    assert name_and_overrides("owned_nets:tiny:width=6") == ("owned_nets:tiny", ["width=6"])
    with pytest.raises(ConfigError, match=r"has no override 'depth'; did you mean width"):
        create_model("owned_nets:tiny", depth=6)


def test_a_module_that_is_imported_already_lends_nothing_to_a_file() -> None:
    """A file may name anything that Python has: it is not called."""
    with pytest.raises(ConfigError, match="code from elsewhere"):
        create_model("os:system", command="true")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("owned_nets:tinny", r"owned_nets has no 'tinny'; did you mean tiny"),
        ("owned_nothing:tiny", r"'owned_nothing' is no source of networks; .* package.module:builder"),
        ("owned_nets:network", r"owned_nets:network is a Identity; expected a builder"),
        ("owned_nets:imported", r"owned_nets:imported is a int; expected a builder"),
        ("owned_nets:of_kind", r"owned_nets:of_kind takes kind; expected a builder that takes num_classes"),
        ("owned_nets:word", r"owned_nets:word gives a str; expected an nn.Module"),
        ("owned_nets:broken", r"broken cannot be built: KeyError: 'no such weights' \(owned_nets.py, line 31\)"),
        (
            "owned_broken:tiny",
            r"owned_broken cannot be imported: ZeroDivisionError: division by zero \(owned_broken.py, l",
        ),
        ("owned_exits:tiny", r"owned_exits cannot be imported: SystemExit: 3"),
        ("owned_needs:tiny", r"owned_needs:tiny needs owned_missing, which is not installed"),
    ],
)
def test_what_cannot_be_used_is_said(write: Write, name: str, message: str) -> None:
    write("owned_nets", SOURCE)
    write("owned_broken", "1 / 0")
    write("owned_exits", "import sys\nsys.exit(3)")
    write("owned_needs", "import owned_missing")
    with pytest.raises(ConfigError, match=message):
        create_model(use(name))


def test_builders_are_given_what_they_name(write: Write) -> None:
    write("owned_nets", SOURCE)
    import owned_nets  # type: ignore[import-not-found]

    assert own.entry(owned_nets.Plain).name == "owned_nets:Plain"
    assert create_model("owned_nets:Plain", 7).out_features == 7  # handed over once, it is known by its name
    given: dict[str, Any] = {}

    def anything(**arguments: Any) -> nn.Module:
        given.update(arguments)
        return nn.Identity()

    entry = own.entry(anything)
    create_model(entry, 4, 1, image_size=16, width=2)
    assert given == {"num_classes": 4, "in_channels": 1, "image_size": 16, "width": 2}
    for handed, name in (
        (partial(owned_nets.tiny, width=2), "partial()"),
        (anything, f"{__name__}:{anything.__qualname__}"),
    ):
        assert own.entry(handed).name == name
        with pytest.raises(ConfigError, match=r"handed over in Python|code from elsewhere"):
            model_entry(name)
    with pytest.raises(ConfigError, match=r"the network is 3; expected a name, a builder or an nn\.Module"):
        own.entry(3)  # type: ignore[arg-type]


def test_a_module_is_copied(write: Write) -> None:
    module = nn.Linear(4, 3).double()
    entry = own.entry(module)
    copied = create_model(entry, 3)
    assert entry.name == "Linear()"
    assert copied is not module
    assert torch.equal(copied.get_parameter("weight"), module.weight)
    with pytest.raises(ConfigError, match=r"Linear\(\) has no override 'width'"):
        create_model(entry, 3, width=1)


def test_scores_are_asked_for_before_anything_else() -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    good = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.LazyLinear(5))
    own.require_scores(good, "good", (3, 4, 4), 5)
    assert good.training
    assert good[2].in_features == 48
    for network, message in (
        (nn.Linear(4, 3), r"x gives scores of shape \(2, 3, 4, 3\) for 2 images of 3 x 4 x 4; expected \(2, 5\)"),
        (Pair(), "x gives scores of type tuple"),
        (nn.Linear(9, 5), "x fails on images of 3 x 4 x 4: RuntimeError: mat1 and mat2"),
    ):
        with pytest.raises(ConfigError, match=message):
            own.require_scores(network, "x", (3, 4, 4), 5)


@pytest.fixture
def packages(tmp_path: Path, write: Write) -> Iterator[None]:
    """Two installed packages: one is sound, one is broken in every way."""
    write("nets_of_acme", SOURCE)
    tuned = "def acme_tuned(num_classes=10, in_channels=3, *, image_size=8):\n    'Tuned.'\n"
    write("more_of_acme", f"import simroot\n\n\n@simroot.models.register(recipe={{'epochs': 2}})\n{tuned}")
    points = {
        "acme": [
            "acme_tiny = nets_of_acme:tiny",
            "simnet2 = nets_of_acme:tiny",
            "acme_tuned = more_of_acme:acme_tuned",
        ],
        "broken": [
            "bad_import = nets_of_nobody:tiny",
            "bad_builder = nets_of_acme:of_kind",
            "acme_tiny = nets_of_acme:word",
        ],
    }
    for package, lines in points.items():
        folder = tmp_path / f"{package}-1.2.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        (folder / "entry_points.txt").write_text("\n".join(["[simroot.models]", *lines, ""]))
    unreadable = tmp_path / "unreadable-1.0.dist-info"
    unreadable.mkdir()
    (unreadable / "METADATA").write_text("Metadata-Version: 2.1\nName: unreadable\nVersion: 1.0\n")
    (unreadable / "entry_points.txt").write_text("[simroot.models]\nno equals sign\n")
    installed.networks.cache_clear()
    yield
    installed.networks.cache_clear()


def test_packages_bring_networks(packages: None) -> None:
    assert list_models("acme*") == ["acme_tiny", "acme_tuned"]
    assert "nets_of_acme" not in sys.modules
    assert names_network("acme_tiny")
    entry = model_entry("acme_tiny")
    assert (entry.name, entry.summary) == ("acme_tiny", "A line about it.")
    assert create_model("acme_tiny", 5, width=2)(torch.zeros(2, 3, 8, 8)).shape == (2, 5)
    assert model_entry("acme_tiny") is entry
    assert model_entry("acme_tuned").recipe == {"epochs": 2}
    assert model_entry("simnet2").parameters == 64_578  # of simroot's own names none is taken


def test_a_broken_package_is_named_and_harms_nobody_else(packages: None) -> None:
    with pytest.raises(
        ConfigError, match=r"the network bad_import of broken 1.2 cannot be used: ModuleNotFoundError: No mod"
    ):
        model_entry("bad_import")
    with pytest.raises(ConfigError, match=r"bad_builder of broken 1.2 cannot be used: .*takes kind; .*uninstall it"):
        create_model("bad_builder")
    assert {"bad_import", "acme_tiny", "simnet2"} <= set(list_models())
    create_model("acme_tiny")
