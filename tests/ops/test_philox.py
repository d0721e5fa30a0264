"""Philox4x32-10 against the known answers that Random123 publishes, and against itself on Python integers."""

import random

import pytest
import torch
from editscore_kernels.reference.philox import draw_words, philox4x32, scale_uniform
from plain_sampler import philox, uniform

# Random123, tests/kat_vectors: counter, key, output.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "output"), KNOWN_ANSWERS)
def test_known_answers(counter: str, key: str, output: str) -> None:
    c0, c1, c2, c3 = (torch.tensor([word]) for word in words(counter))
    k0, k1 = (torch.tensor([word]) for word in words(key))
    assert [int(word) for word in philox4x32((c0, c1, c2, c3), (k0, k1))] == words(output)
    assert philox(words(counter), words(key)) == words(output)


def test_a_draw_uses_all_bits_of_seed_request_and_position() -> None:
    generator = random.Random(0)
    rows = [[generator.randrange(-(2**63), 2**63) for _ in range(3)] for _ in range(200)]
    rows += [[1 << bit if which == column else 0 for column in range(3)] for which in range(3) for bit in range(63)]
    seed, request, position = torch.tensor(rows).T
    high, low = draw_words(seed, request, position)
    drawn = [(int(h) << 32 | int(w)) / 2**64 for h, w in zip(high, low, strict=True)]
    assert drawn == [uniform(*row) for row in rows]
    assert len(set(drawn)) == len(rows)


def test_scaling_is_the_exact_product() -> None:
    generator = random.Random(1)
    edges = [0, 1, 2**32 - 1, 2**32, 2**62 - 1]
    pairs = [(u, t) for u in (*edges, 2**64 - 1) for t in edges] + [
        (generator.getrandbits(64), generator.getrandbits(generator.randrange(1, 63))) for _ in range(500)
    ]
    high = torch.tensor([u >> 32 for u, _ in pairs])
    low = torch.tensor([u % 2**32 for u, _ in pairs])
    scaled = scale_uniform((high, low), torch.tensor([t for _, t in pairs]))
    assert scaled.tolist() == [u * t >> 64 for u, t in pairs]
