"""Several people's identities in one attention."""

from __future__ import annotations

import pytest
import torch
from factory import small_models

from animator_core.errors import ShapeError
from animator_core.interfaces import Conditioning
from animator_core.models.id_attention import AttentionContext, identity_attention

HEADS, TOKENS, WIDTH = 2, 24, 8


@pytest.fixture
def parts():
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    query, image = draw(3, TOKENS, WIDTH), (draw(3, 1, WIDTH), draw(3, 1, WIDTH))
    people = [(draw(3, 4, WIDTH), draw(3, 4, WIDTH)) for _ in range(2)]
    return query, image, people


def together(people):
    return tuple(torch.cat(part, dim=1) for part in zip(*people, strict=True))


def test_one_person_whose_region_is_everything_is_the_attention_without_regions(parts):
    query, image, (person, _) = parts
    plain = identity_attention(query, image, person, heads=HEADS, scale=0.7)
    everywhere = torch.ones(3, 1, TOKENS)
    with_region = identity_attention(
        query, image, person, heads=HEADS, scale=0.7, regions=everywhere
    )
    torch.testing.assert_close(with_region, plain, rtol=0, atol=1e-6)


def test_everybody_gets_in_their_region_what_they_would_get_alone(parts):
    query, image, people = parts
    regions = torch.zeros(3, 2, TOKENS)
    regions[:, 0, :10] = 1
    regions[:, 1, 10:20] = 1
    blended = identity_attention(query, image, together(people), heads=HEADS, regions=regions)
    alone = [identity_attention(query, image, p, heads=HEADS) for p in people]
    off = identity_attention(query, image, people[0], heads=HEADS, scale=0.0)
    torch.testing.assert_close(blended[:, :10], alone[0][:, :10])
    torch.testing.assert_close(blended[:, 10:20], alone[1][:, 10:20])
    torch.testing.assert_close(blended[:, 20:], off[:, 20:])
    # the strength inside does not depend on how large the other's region is
    regions[:, 1] = 0
    smaller = identity_attention(query, image, together(people), heads=HEADS, regions=regions)
    torch.testing.assert_close(smaller[:, :10], blended[:, :10])


def test_exchanging_people_and_regions_changes_nothing(parts):
    query, image, people = parts
    regions = torch.rand(3, 2, TOKENS, generator=torch.Generator().manual_seed(1))
    one = identity_attention(query, image, together(people), heads=HEADS, regions=regions)
    other = identity_attention(
        query, image, together(people[::-1]), heads=HEADS, regions=regions.flip(1)
    )
    torch.testing.assert_close(one, other)
    swapped = identity_attention(query, image, together(people[::-1]), heads=HEADS, regions=regions)
    assert not torch.allclose(one, swapped)


def conditioning(regions):
    return Conditioning(
        image_tokens=torch.zeros(1, 1, 4),
        identity_tokens=torch.zeros(1, 4, 4),
        added_time_ids=torch.zeros(1, 3),
        identity_regions=regions,
    )


def test_regions_are_brought_to_every_level_by_area():
    context = AttentionContext()
    regions = torch.zeros(2, 1, 6, 10)
    regions[:, :, :3, :5] = 1
    with context.bound(conditioning(regions), 2):
        assert torch.equal(context.regions_at(60), regions.flatten(2))
        half = context.regions_at(15).unflatten(2, (3, 5))
        assert half[0, 0].tolist() == [[1, 1, 0.5, 0, 0], [0.5, 0.5, 0.25, 0, 0], [0] * 5]
        assert context.regions_at(6).shape == (2, 1, 6)
        with pytest.raises(ShapeError, match="no halving"):
            context.regions_at(7)
    with context.bound(conditioning(None), 2):
        assert context.regions_at(60) is None


def test_the_whole_network_with_one_person_everywhere():
    unet = small_models(seed=2).unet
    generator = torch.Generator().manual_seed(4)
    frames, height, width = 3, 8, 12
    shared = {
        "image_tokens": torch.randn(1, 1, 64, generator=generator),
        "identity_tokens": torch.randn(1, 4, 64, generator=generator),
        "added_time_ids": torch.tensor([[6.0, 127.0, 0.02]]),
    }
    sample = torch.randn(1, frames, 8, height, width, generator=generator)

    def run(**others):
        with torch.no_grad():
            return unet(sample, torch.tensor(0.3), Conditioning(**shared, **others))

    plain = run()
    everywhere = run(identity_regions=torch.ones(frames, 1, height, width))
    torch.testing.assert_close(everywhere, plain, rtol=0, atol=1e-5)
    left = torch.zeros(frames, 1, height, width)
    left[..., :6] = 1
    assert not torch.allclose(run(identity_regions=left), plain)
    nowhere = run(identity_regions=torch.zeros(frames, 1, height, width))
    torch.testing.assert_close(nowhere, run(identity_scale=0.0), rtol=0, atol=1e-5)
