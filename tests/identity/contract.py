"""What holds for every identity index. A backend's test subclasses `IdentityIndexContract` and says how to open one.

Digests here differ in the upper 96 bits: an index need not keep more of them.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tallystick.identity.interface import U32, U64, Found, Identities, IdentityIndex, IndexDamagedError

MAX64 = 2**64 - 1
Digest = tuple[int, int]


def identities(digests: list[Digest]) -> Identities:
    return Identities(
        np.array([high for high, _ in digests], np.uint64), np.array([low for _, low in digests], np.uint64)
    )


def answers(found: Found) -> list[tuple[int, int]]:
    """(position, content) of each."""
    return list(zip(found.position.tolist(), found.content.tolist(), strict=True))


def add(index: IdentityIndex, entries: dict[Digest, tuple[int, int]], *, through: int) -> None:
    index.add(
        identities(list(entries)),
        np.array([content for _, content in entries.values()], np.uint32),
        np.array([position for position, _ in entries.values()], np.uint64),
        through=through,
    )


def find(index: IdentityIndex, digests: list[Digest]) -> list[tuple[int, int]]:
    return answers(index.find(identities(digests)))


def scanned(index: IdentityIndex) -> dict[Digest, tuple[int, int]]:
    """Everything a scan yields, with the low half cut to the bits every index keeps."""
    everything: dict[Digest, tuple[int, int]] = {}
    for block, content, position in index.scan():
        for high, low, c, p in zip(
            block.high.tolist(), block.low.tolist(), content.tolist(), position.tolist(), strict=True
        ):
            assert (high, low >> 32) not in everything
            everything[high, low >> 32] = (p, c)
    return everything


def random_entries(seed: int, count: int, *, first: int = 1) -> dict[Digest, tuple[int, int]]:
    rng = np.random.default_rng(seed)
    halves = rng.integers(0, 2**64, (2, count), dtype=np.uint64).tolist()
    contents = rng.integers(0, 2**32, count).tolist()
    return {
        digest: (first + i, content)
        for i, (digest, content) in enumerate(zip(zip(*halves, strict=True), contents, strict=True))
    }


class IdentityIndexContract:
    """Subclass with an `opened(directory)` that opens the index there, with little memory so that it writes often."""

    def opened(self, directory: Path) -> IdentityIndex:
        raise NotImplementedError

    @pytest.fixture
    def directory(self, tmp_path: Path) -> Path:
        return tmp_path / "identity"

    def test_an_empty_index_holds_nothing(self, directory: Path) -> None:
        index = self.opened(directory)
        assert (len(index), index.covered) == (0, 0)
        assert find(index, [(1, 2 << 32)]) == [(0, 0)]
        assert find(index, []) == []
        assert scanned(index) == {}
        index.flush()
        index.close()

    def test_finds_what_was_added_and_nothing_else(self, directory: Path) -> None:
        index = self.opened(directory)
        entries = random_entries(1, 3000)
        others = list(random_entries(2, 3000))
        items = list(entries.items())
        for start in range(0, 3000, 250):
            add(index, dict(items[start : start + 250]), through=start + 250)
        assert len(index) == 3000
        mixed = [digest for pair in zip(entries, others, strict=True) for digest in pair]
        expected = [answer for known in entries.values() for answer in (known, (0, 0))]
        assert find(index, mixed) == expected
        index.close()

    def test_a_question_asked_twice_in_one_call_is_answered_twice(self, directory: Path) -> None:
        index = self.opened(directory)
        add(index, {(5, 6 << 32): (9, 7)}, through=9)
        for _ in range(2):
            assert find(index, [(5, 6 << 32), (0, 0), (5, 6 << 32)]) == [(9, 7), (0, 0), (9, 7)]
            index.flush()
        index.close()

    def test_extreme_and_neighbouring_digests_stay_apart(self, directory: Path) -> None:
        highs = [0, 1, 2**63 - 1, 2**63, MAX64 - 1, MAX64]
        lows = [0, 1 << 32, 2**63, MAX64 - (2**32 - 1)]
        digests = [(high, low) for high in highs for low in lows]
        entries = {digest: (i + 1, i) for i, digest in enumerate(digests[::2])}
        index = self.opened(directory)
        add(index, entries, through=100)
        for _ in range(2):
            assert find(index, digests) == [entries.get(digest, (0, 0)) for digest in digests]
            index.flush()
        index.close()

    def test_a_thousand_identities_with_one_high_half_stay_apart(self, directory: Path) -> None:
        index = self.opened(directory)
        entries = {(77, low << 32): (low + 1, low) for low in range(1000)} | random_entries(
            3, 500, first=2000
        )
        add(index, entries, through=3000)
        asked = [*entries, (77, 5000 << 32), (76, 0), (78, 0)]
        expected = [*entries.values(), (0, 0), (0, 0), (0, 0)]
        assert find(index, asked) == expected
        index.close()
        index = self.opened(directory)
        assert find(index, asked) == expected
        index.close()

    def test_clustered_digests(self, directory: Path) -> None:
        index = self.opened(directory)
        entries = {(MAX64 - 3 * i, i << 40): (i + 1, i) for i in range(2000)}
        add(index, entries, through=2000)
        index.close()
        index = self.opened(directory)
        assert find(index, list(entries)) == list(entries.values())
        assert find(index, [(MAX64 - 3 * i - 1, i << 40) for i in range(2000)]) == [(0, 0)] * 2000
        index.close()

    def test_positions_far_apart(self, directory: Path) -> None:
        entries = {(i << 40, i << 33): (1 + i * 2**40, i) for i in range(300)}
        entries[1, 1 << 32] = (MAX64, 2**32 - 1)
        index = self.opened(directory)
        add(index, entries, through=MAX64)
        index.close()
        index = self.opened(directory)
        assert find(index, list(entries)) == list(entries.values())
        assert index.covered == MAX64
        index.close()

    def test_what_was_flushed_survives_a_lost_process(self, directory: Path) -> None:
        index = self.opened(directory)
        kept = random_entries(4, 50)
        add(index, kept, through=60)
        index.flush()
        lost = random_entries(5, 10, first=61)
        add(index, lost, through=70)
        assert index.covered == 60
        reopened = self.opened(directory)
        assert (reopened.covered, len(reopened)) == (60, 50)
        assert find(reopened, [*kept, *lost]) == [*kept.values(), *[(0, 0)] * 10]
        add(reopened, lost, through=70)
        assert find(reopened, list(lost)) == list(lost.values())
        reopened.close()

    def test_covered_moves_without_new_identities(self, directory: Path) -> None:
        index = self.opened(directory)
        add(index, {}, through=500)
        assert index.covered == 0
        index.flush()
        assert index.covered == 500
        index.close()
        assert self.opened(directory).covered == 500

    def test_scan_yields_everything_once(self, directory: Path) -> None:
        index = self.opened(directory)
        entries = random_entries(6, 1500)
        items = list(entries.items())
        for start in range(0, 1500, 500):
            add(index, dict(items[start : start + 500]), through=start + 500)
        assert scanned(index) == {(high, low >> 32): answer for (high, low), answer in entries.items()}
        index.close()

    def test_reset_forgets_on_disk_too(self, directory: Path) -> None:
        index = self.opened(directory)
        entries = random_entries(7, 400)
        add(index, entries, through=400)
        index.flush()
        index.reset()
        assert (len(index), index.covered) == (0, 0)
        assert find(index, list(entries)) == [(0, 0)] * 400
        assert len(self.opened(directory)) == 0
        add(index, entries, through=400)
        index.close()
        assert find(self.opened(directory), list(entries)) == list(entries.values())

    def test_close_flushes_and_may_be_called_twice(self, directory: Path) -> None:
        index = self.opened(directory)
        add(index, {(1, 1 << 32): (1, 1)}, through=1)
        index.close()
        index.close()
        reopened = self.opened(directory)
        assert reopened.covered == 1
        assert find(reopened, [(1, 1 << 32)]) == [(1, 1)]

    def test_an_empty_index_is_loaded_at_once(self, directory: Path) -> None:
        entries = dict(sorted(random_entries(7, 1000, first=50).items()))

        def blocks(some: dict[Digest, tuple[int, int]]) -> Iterator[tuple[Identities, U32, U64]]:
            digests = list(some)
            for start in range(0, len(digests), 300):
                part = digests[start : start + 300]
                content = np.array([some[one][1] for one in part], np.uint32)
                yield identities(part), content, np.array([some[one][0] for one in part], np.uint64)

        announced = {"count": 1000, "position_min": 50, "position_max": 1049, "through": 2000}
        index = self.opened(directory)
        wrong: list[tuple[dict[Digest, tuple[int, int]], dict[str, int]]] = [
            (entries, {"count": 999}),
            (entries, {"count": 1001}),
            (entries, {"position_max": 1048}),
            (dict(reversed(entries.items())), {}),
        ]
        for given, changes in wrong:
            with pytest.raises(IndexDamagedError):
                index.load(blocks(given), **(announced | changes))
            assert (len(index), index.covered) == (0, 0)
        index.load(blocks(entries), **announced)
        assert (len(index), index.covered) == (1000, 2000)
        with pytest.raises(ValueError, match="empty"):
            index.load(blocks(entries), **(announced | {"through": 3000}))
        add(index, {(1, 1 << 32): (2001, 5)}, through=2001)
        index.close()
        index = self.opened(directory)
        digests = [*entries, (1, 1 << 32), (2, 2 << 32)]
        assert find(index, digests) == [*entries.values(), (2001, 5), (0, 0)]
        index.close()
        empty = self.opened(directory.with_name("empty"))
        empty.load(iter(()), count=0, position_min=0, position_max=0, through=9)
        assert (len(empty), empty.covered) == (0, 9)
        empty.close()
