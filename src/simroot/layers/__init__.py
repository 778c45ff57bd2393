"""Layers: parameters, constraints and initialisation around one operator each."""

from simroot.layers.accelerate import Acceleration, accelerate, acceleration, restore
from simroot.layers.blocks.root_module import RootModule2d
from simroot.layers.folding import Foldable
from simroot.layers.grouped import GroupedConv2d
from simroot.layers.mex import GlobalMexPool2d, MexDense, MexPool2d
from simroot.layers.noise import MultiplicativeNoise
from simroot.layers.norm import FoldedContrast2d, FoldedNorm2d, FoldedWhitening2d, NormalisedConv2d
from simroot.layers.root import UnevenConv2d
from simroot.layers.similarity import Similarity2d, WhitenedSimilarity2d

__all__ = [
    "Acceleration",
    "Foldable",
    "FoldedContrast2d",
    "FoldedNorm2d",
    "FoldedWhitening2d",
    "GlobalMexPool2d",
    "GroupedConv2d",
    "MexDense",
    "MexPool2d",
    "MultiplicativeNoise",
    "NormalisedConv2d",
    "RootModule2d",
    "Similarity2d",
    "UnevenConv2d",
    "WhitenedSimilarity2d",
    "accelerate",
    "acceleration",
    "restore",
]
