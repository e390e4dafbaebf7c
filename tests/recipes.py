"""Weights by recipe: what the golden files use instead of storing large tensors.

The recipe is written down in the golden set's README; every entry depends on its name, its shape
and one seed only.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from golden_files import golden_dir, load_case
from safetensors.torch import load_file
from torch import Tensor, nn


def _entry(name: str, shape: tuple[int, ...], seed: int, gain: float) -> np.ndarray:
    random = np.random.RandomState((zlib.crc32(name.encode()) ^ seed) & 0xFFFFFFFF)
    x = random.standard_normal(shape)
    last = name.rsplit(".", 1)[-1]
    rules = (
        (last == "running_var", lambda: np.exp(0.3 * x)),
        (last == "running_mean", lambda: 0.2 * x),
        (len(shape) >= 2, lambda: gain * x / math.sqrt(math.prod(shape[1:]))),
        (last == "mix_factor", lambda: 0.8 * x),
        (last == "scale", lambda: 2 + 0.3 * x),
        (last == "bias", lambda: 0.1 * x),
        ("prelu" in name, lambda: 0.25 + 0.1 * x),
        (last == "weight", lambda: 1 + 0.2 * x),
        (True, lambda: 0.5 * x),
    )
    return next(make() for applies, make in rules if applies)


def load_recipe(module: nn.Module, recipe: Mapping[str, Any]) -> None:
    """Fill a module by recipe, and check names, shapes and sums where the recipe lists them."""
    state = {k: v for k, v in module.state_dict().items()}
    keys = recipe.get("keys")
    if keys is not None:
        assert set(keys) == set(state)
    for name, old in state.items():
        if not old.is_floating_point():
            continue
        exact = _entry(name, tuple(old.shape), recipe["seed"], recipe["gain"])
        values = exact.astype(np.float32)
        if keys is not None:
            shape, total = keys[name]
            assert list(old.shape) == shape, name
            found = values.sum(dtype=np.float64)
            assert math.isclose(found, total, rel_tol=1e-9, abs_tol=1e-9), name
        state[name] = torch.from_numpy(values).reshape(old.shape)
    module.load_state_dict(state, strict=True)


def stored_weights(case: Mapping[str, Any], tensors: Mapping[str, Tensor], prefix: str) -> dict:
    """Weights that a case stores itself or in its shared weight files, without the prefix."""
    merged = dict(tensors)
    for name in case.get("weights_files", []):
        merged.update(load_file(golden_dir() / name))
    return {k[len(prefix) :]: v for k, v in merged.items() if k.startswith(prefix)}


def fill(module: nn.Module, case: Mapping[str, Any], tensors: Mapping[str, Tensor], prefix: str):
    """Load a case's weights into a module, by recipe or as stored; strict."""
    if "recipe" in case:
        load_recipe(module, case["recipe"])
    else:
        module.load_state_dict(stored_weights(case, tensors, prefix), strict=True)
    return module.eval()


def pipeline_recipe(case: Mapping[str, Any], module: str) -> dict[str, Any]:
    """Recipe of one module of a pipeline case, with the key list of the case that holds it."""
    recipe = dict(case["recipes"][module])
    listed = case["recipes"].get("checksums_in")
    if "keys" not in recipe and listed:
        other, _ = load_case(listed.removesuffix(".json"))
        keys = other["recipes"].get(module, {})
        if keys.get("seed") == recipe["seed"] and "keys" in keys:
            recipe["keys"] = keys["keys"]
    return recipe


def assert_golden(case: Mapping[str, Any], expected: Mapping[str, Tensor], name: str, got: Tensor):
    """Compare with a golden tensor within the tolerance that its file gives."""
    want = expected[name]
    assert got.shape == want.shape, f"{name}: {tuple(got.shape)} != {tuple(want.shape)}"
    atol = case["tolerance"]["atol"][name]
    difference = (got.double() - want.double()).abs().max().item()
    assert difference <= atol, f"{name}: largest difference {difference:.3g} > {atol:.3g}"
