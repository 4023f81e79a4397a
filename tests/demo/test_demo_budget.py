"""The demo is small enough for 2 ordinary cores."""

from count_demo_flops import LIMIT, count_patches, count_tera_flop


def test_the_demo_does_at_most_40_tera_flop():
    counts = count_tera_flop(*count_patches())
    assert len(counts) == 3 and 1 < sum(counts.values()) <= LIMIT == 40, counts
