"""Training: recipes, run directories, resumption and evaluation."""

from typing import TYPE_CHECKING

from simroot.lazy import serve

if TYPE_CHECKING:
    from simroot.training.chosen import Chosen, chosen_images
    from simroot.training.defaults import Choice, choose
    from simroot.training.evaluation import Evaluation, evaluate
    from simroot.training.exporting import export_options
    from simroot.training.fit import TrainingInterrupted, resume, train
    from simroot.training.integers import quantise
    from simroot.training.optim import build_optimizer, parameter_groups, schedule_factor
    from simroot.training.recipes import RECIPES, Recipe, for_data, recipe
    from simroot.training.run import Run, load_run

__all__ = [
    "RECIPES",
    "Choice",
    "Chosen",
    "Evaluation",
    "Recipe",
    "Run",
    "TrainingInterrupted",
    "build_optimizer",
    "choose",
    "chosen_images",
    "evaluate",
    "export_options",
    "for_data",
    "load_run",
    "parameter_groups",
    "quantise",
    "recipe",
    "resume",
    "schedule_factor",
    "train",
]

serve(
    __name__,
    chosen=("Chosen", "chosen_images"),
    defaults=("Choice", "choose"),
    evaluation=("Evaluation", "evaluate"),
    exporting=("export_options",),
    fit=("TrainingInterrupted", "resume", "train"),
    integers=("quantise",),
    optim=("build_optimizer", "parameter_groups", "schedule_factor"),
    recipes=("RECIPES", "Recipe", "for_data", "recipe"),
    run=("Run", "load_run"),
)
