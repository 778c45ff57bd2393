"""What does not fit into memory is refused before it is built."""

from typing import Any

import pytest

from simroot.errors import ConfigError
from simroot.models import create_model


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("simnet2", {"image_size": 200_000}),
        ("nin", {"image_size": 1_000_000}),
        ("simnet2_small", {"channels": [1_000_000, 8]}),
        ("simnet2_small", {"image_size": (100_000, 100_000)}),
    ],
)
def test_one_line_instead_of_a_full_memory(
    name: str, overrides: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sysconf", lambda name: 2**17)  # 17 GB
    with pytest.raises(ConfigError, match=rf"^{name} of this size, .* takes at least [\d,]+ GB .* has 17 GB: choose"):
        create_model(name, **overrides)
