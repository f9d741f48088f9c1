from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envpool.pool.image_affinity import SLACK, choose_node, preferred_nodes

IMAGES = [f"docker:repo-{number}" for number in range(600)]


def test_images_spread_evenly_and_stay_when_a_node_comes() -> None:
    before = [preferred_nodes(image, 4)[0] for image in IMAGES]
    after = [preferred_nodes(image, 5)[0] for image in IMAGES]
    assert all(100 < count < 200 for count in Counter(before).values())
    moved = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert all(new == 4 for _, new in moved)
    assert 80 < len(moved) < 160


def test_a_group_goes_to_its_favourite_until_that_is_unfairly_loaded() -> None:
    first, second, third = preferred_nodes("docker:a", 3)
    loads = [0, 0, 0]
    chosen = []
    for _ in range(6):
        node = choose_node("docker:a", loads, 8)
        loads[node] += 8
        chosen.append(node)
    assert chosen[:3] == [first, second, third]
    assert sorted(loads) == [16, 16, 16]
    assert choose_node("docker:a", [0, 0, 0], 8, avoid={first, second}) == third
    assert choose_node("docker:a", [0, 0, 0], 8, avoid={0, 1, 2}) == first
    busy = [100, 100, 100]
    busy[first] = 101
    assert choose_node("docker:a", busy, 1) == first  # a little above the mean is still fair
    with pytest.raises(ValueError, match="no rollout workers"):
        choose_node("docker:a", [], 8)


@given(st.lists(st.tuples(st.sampled_from(IMAGES), st.integers(1, 16)), min_size=1, max_size=60), st.integers(1, 8))
def test_no_node_is_loaded_far_above_the_mean(groups: list[tuple[str, int]], num_nodes: int) -> None:
    loads = [0] * num_nodes
    for image, size in groups:
        loads[choose_node(image, loads, size)] += size
    assert max(loads) <= SLACK * sum(loads) / num_nodes + 16
