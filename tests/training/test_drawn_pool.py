from __future__ import annotations

import numpy as np
import pytest

from animator_core.errors import ConfigError
from animator_core.training.drawn_pool import drawn_pool, open_pool


class Squares:
    """Item i is i squared; the item `breaks` fails."""

    def __init__(self, breaks: int = -1) -> None:
        self.breaks = breaks

    def __call__(self, index: int) -> dict[str, np.ndarray]:
        if index == self.breaks:
            raise RuntimeError("killed")
        return {"values": np.array([index**2, index]), "name": np.array(index, np.uint8)}


@pytest.mark.parametrize("workers", [0, 1])
def test_items_are_drawn_once_and_in_order(tmp_path, workers):
    pool = drawn_pool(tmp_path / "a", Squares(), 4, settings={"x": (1, 2)}, workers=workers)
    np.testing.assert_array_equal(pool["values"][:, 0], [0, 1, 4, 9])
    assert pool["name"].dtype == np.uint8
    # another call reads, it does not draw
    again = drawn_pool(tmp_path / "a", Squares(breaks=0), 4, settings={"x": (1, 2)})
    np.testing.assert_array_equal(again["values"], open_pool(tmp_path / "a")["values"])


def test_a_pool_of_other_settings_is_refused(tmp_path):
    drawn_pool(tmp_path / "a", Squares(), 2, settings={"x": 1})
    with pytest.raises(ConfigError, match="Remove the folder"):
        drawn_pool(tmp_path / "a", Squares(), 2, settings={"x": 2})
    with pytest.raises(ConfigError, match="Remove the folder"):
        drawn_pool(tmp_path / "a", Squares(), 3, settings={"x": 1})


def test_a_drawing_that_was_killed_leaves_no_half_pool(tmp_path):
    with pytest.raises(RuntimeError):
        drawn_pool(tmp_path / "a", Squares(breaks=2), 4, settings={})
    assert not (tmp_path / "a").exists()
    assert len(drawn_pool(tmp_path / "a", Squares(), 4, settings={})["values"]) == 4
