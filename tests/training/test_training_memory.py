"""Training memory, computed on tensors without content."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from toy import TOY
from training_memory import LiveBytes, computed_memory, settings


def test_what_is_dropped_is_no_longer_counted():
    with LiveBytes() as memory:
        kept = torch.ones(1000)
        dropped = torch.ones(3000)
        view = kept[10:]
        both = memory.live
        del dropped
        assert both - memory.live == 12288  # 12,000 bytes in blocks of 512
        assert memory.peak == both
        del kept
        assert memory.live >= 4000, "the view holds the storage"
        assert view.shape == (990,)


def test_recomputing_saves_memory_and_the_optimizer_costs_it():
    arguments = ["--frames", "8"]
    weights, trained, least = computed_memory(TOY, 64, 64, settings(arguments))
    gradients_and_moments = 3 * 4 * trained
    assert least > weights + gradients_and_moments
    _, _, most = computed_memory(TOY, 64, 64, settings([*arguments, "--keep-activations"]))
    state = weights + gradients_and_moments
    assert most - state > 2 * (least - state)
