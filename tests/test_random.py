"""Known answers of Philox, and what makes the streams keyed."""

import pytest
import torch

from snag_dist.random import Moment, Stream, philox

# Published with the Random123 library: counter words, key words, result words.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_known_answers(counter: tuple[int, ...], key: tuple[int, int], expected: tuple[int, ...]) -> None:
    words = philox(tuple(torch.tensor([word]) for word in counter), key)  # type: ignore[arg-type]
    assert tuple(int(word) for word in words) == expected


def test_a_number_depends_on_its_index_alone() -> None:
    stream = Stream(3, "noise")
    together = stream.normal(torch.tensor([5, 900, 7]), 11)
    assert torch.equal(together[1], stream.normal(torch.tensor([900]), 11)[0])


@pytest.mark.parametrize(
    "other",
    [
        Stream(4, "noise"),
        Stream(3, "order"),
        Stream(3, "noise").at(epoch=1),
        Stream(3, "noise").at(step=1),
        Stream(3, "noise").child("x"),
    ],
)
def test_every_part_of_the_address_counts(other: Stream) -> None:
    ids = torch.arange(64)
    assert not torch.isin(Stream(3, "noise").uniform(ids, 4), other.uniform(ids, 4)).any()


def test_moments_of_the_distributions() -> None:
    stream, ids = Stream(0, "moments"), torch.arange(20000)
    normal = stream.normal(ids, 5, torch.float64)
    assert abs(float(normal.mean())) < 4 / 100000**0.5
    assert abs(float(normal.std()) - 1) < 0.01
    uniform = stream.uniform(ids, 5, torch.float64)
    assert float(uniform.min()) >= 0
    assert float(uniform.max()) < 1
    assert abs(float(uniform.mean()) - 0.5) < 0.005
    counts = torch.bincount(stream.integers(ids, 5, 10).reshape(-1), minlength=10)
    assert (counts - 10000).abs().max() < 5 * 100


def test_bits16_split_words_evenly() -> None:
    bits = Stream(0, "bits").bits16(torch.arange(5000), 7)
    assert bits.shape == (5000, 7)
    assert int(bits.min()) >= 0
    assert int(bits.max()) < 65536
    assert abs(float((bits < 6554).double().mean()) - 0.1) < 0.01


@pytest.mark.parametrize("size", [1, 2, 3, 17, 4096, 12842])
def test_permute_is_a_bijection_that_changes_with_the_epoch(size: int) -> None:
    ids = torch.arange(size)
    first = Stream(1, "order").permute(ids, size)
    assert torch.equal(first.sort().values, ids)
    if size > 16:
        assert not torch.equal(first, Stream(1, "order", epoch=1).permute(ids, size))
        assert int((first == ids).sum()) < 8


def test_moment_separates_epochs_from_steps() -> None:
    moment, later = Moment(0, 2, 40), Moment(0, 2, 41)
    assert moment.each_epoch("x") == later.each_epoch("x")
    assert moment.each_step("x") != later.each_step("x")
    assert moment.each_epoch("x") != Moment(0, 0, 0).each_step("x").at(epoch=1)


@pytest.mark.parametrize("width", [1, 4, 13])
def test_compiled_words_equal_those_of_torch(width: int) -> None:
    ids = torch.tensor([0, 1, 2**31, 2**32 + 5, 91_000_000])
    stream = Stream(9, "words", epoch=3)
    assert torch.equal(stream._words(ids, width), stream._words_by_torch(ids, width))


@pytest.mark.parametrize("size", [1, 3, 17, 4096, 12842, 2**31 + 5])
def test_compiled_places_equal_those_of_torch_and_lead_back(size: int) -> None:
    stream = Stream(4, "places", epoch=2)
    values = torch.tensor([0, size // 3, size // 2, size - 1])
    places = stream.permute(values, size)
    half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
    assert torch.equal(places, stream._walk_by_torch(values, size, half_bits, backward=False))
    assert torch.equal(stream.unpermute(places, size), values)
    assert torch.equal(stream._walk_by_torch(places, size, half_bits, backward=True), values)


def test_a_permutation_stays_what_it_was() -> None:
    # Stores are numbered by it: another one would be another store.
    rows = Stream(0, "store/rows")
    assert rows.permute(torch.arange(6), 6).tolist() == [5, 4, 1, 0, 2, 3]
    ids, found = torch.tensor([0, 5, 664_999, 90_000_000]), [61_515_183, 25_593_842, 48_038_931, 75_498_998]
    assert rows.permute(ids, 91_000_000).tolist() == found


@pytest.mark.parametrize("outside", [-1, 10])
def test_an_index_outside_the_range_is_refused(outside: int) -> None:
    stream = Stream(0, "store/rows")
    for send in (stream.permute, stream.unpermute):
        with pytest.raises(ValueError, match=rf"expected values in \[0, 10\), got .*{outside}"):
            send(torch.tensor([3, outside]), 10)
