"""The names of the data sets that are known by name."""

NAMES = ("digits", "cifar10", "cifar100", "svhn", "fashion-mnist")
