"""Messages speak the words of the command line."""

import pytest

from simroot.cli.words import in_options, unknown_words

OPTIONS = (
    *("--data", "--data-root", "--image-size", "--out", "--devices", "--recipe", "--seed", "--pretrain.channels"),
    *("--recipe.epochs", "--recipe.batch_size", "--recipe.learning_rate", "--recipe.seed", "--recipe.weight_decay"),
)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("--epochs", "--recipe.epochs"),
        ("--recipe.epoch", "--recipe.epochs"),
        ("--recipe-epochs=3", "--recipe.epochs"),
        ("--batch-size", "--recipe.batch_size"),
        ("--lr", "--recipe.learning_rate"),
        ("--recipe.wd", "--recipe.weight_decay"),
        ("--sed", "--seed"),
        ("--device", "--devices"),
        ("--imgsz", "--image-size"),
        ("--output", "--out"),
    ],
)
def test_the_option_that_was_meant(word: str, meant: str) -> None:
    found = unknown_words([word, "3"], OPTIONS)
    assert found == f"unknown option {word.partition('=')[0]}; did you mean {meant}?"


def test_words_that_are_like_nothing() -> None:
    assert unknown_words(["--patience", "3"], OPTIONS) == "unknown option --patience"
    assert unknown_words(["a", "-3"], OPTIONS) == "unknown arguments: a -3"
    both = unknown_words(["--sed", "1", "--epochs"], OPTIONS)
    assert both == "unknown option --sed; did you mean --seed?; unknown option --epochs; did you mean --recipe.epochs?"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("image_size of simnet3 is 4; the smallest is 8", "--image-size of simnet3 is 4; the smallest is 8"),
        ("recipe field epochs is 0; expected more", "--recipe.epochs is 0; expected more"),
        ("recipe field gamma is 0; expected more", "recipe field gamma is 0; expected more"),
        ("order of simnet2 is 0; expected more", "--set order of simnet2 is 0; expected more"),
        ("degree is 3; expected 2", "degree is 3; expected 2"),
        ("choose another batch_size or image_size", "choose another --recipe.batch_size or --image-size"),
        (
            "my/image_size/a.png, 'image_size' and image_size.png",
            "my/image_size/a.png, 'image_size' and image_size.png",
        ),
    ],
)
def test_options_stand_for_arguments(message: str, expected: str) -> None:
    options = {name.lstrip("-").replace("-", "_"): name for name in OPTIONS}
    assert in_options(message, options, {"order": 0}) == expected
