"""Layers and networks as objects: pickled, copied, saved whole and printed."""

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn

from simroot.layers import GlobalMexPool2d, MexDense, MexPool2d, Similarity2d, WhitenedSimilarity2d
from simroot.models import create_model, deploy


def saved(model: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    loaded: nn.Module = torch.load(buffer, weights_only=False)
    return loaded


def pickled(model: nn.Module) -> nn.Module:
    loaded: nn.Module = pickle.loads(pickle.dumps(model))
    return loaded


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "learned order": lambda: Similarity2d(3, 4, 3, order=1.5, learn_order=True),
    "slopes": lambda: Similarity2d(3, 4, 3, order=2.0),
    "whitened": lambda: WhitenedSimilarity2d(3, 4, 5, 3),
    "dense": lambda: MexDense(3, 4),
    "pool": lambda: MexPool2d(2, beta=1.0, learn_beta=True, channels=3),
    "global pool": lambda: GlobalMexPool2d(),
    "network": lambda: create_model("simnet2_small", image_size=16, channels=4),
    "deployed": lambda: deploy(create_model("simnet_mixed", image_size=16, channels=8)),
}


@pytest.mark.parametrize("copied", [pickled, copy.deepcopy, saved])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_copy_is_a_layer_of_its_own(name: str, copied: Callable[[nn.Module], nn.Module]) -> None:
    model = NETWORKS[name]().eval()
    # Again: what was parametrised must be so in the copy, too.
    found = copied(copied(model))
    assert repr(found) == repr(model)
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(found(x), model(x))
    assert found.state_dict().keys() == model.state_dict().keys()
    assert not {id(p) for p in found.parameters()} & {id(p) for p in model.parameters()}
    before = [parameter.clone() for parameter in model.parameters()]
    found.train()(x).square().mean().backward()
    torch.optim.SGD(found.parameters(), 0.01).step()
    assert not torch.equal(found.eval()(x), model(x))
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))
