"""Which node plays which image: the same one again and again, so that an image is pulled and kept once, within fair loads.

Rendezvous hashing (Thaler and Ravishankar, 1998) with bounded loads (Mirrokni and others, arXiv 1608.01350).
"""

import hashlib
import math
from collections.abc import Collection, Sequence

SLACK = 1.25
"""A node takes at most this many times its fair share before an image goes to the next in its order."""


def preferred_nodes(image: str, num_nodes: int) -> list[int]:
    """All nodes, the image's favourite first. A new node takes over only its own share of the images.

    >>> preferred_nodes("docker:a", 3) == preferred_nodes("docker:a", 3), sorted(preferred_nodes("docker:b", 3))
    (True, [0, 1, 2])
    """
    return sorted(range(num_nodes), key=lambda node: _weight(image, node), reverse=True)


def choose_node(image: str, loads: Sequence[int], size: int, avoid: Collection[int] = ()) -> int:
    """Index of the node for `size` more episodes of this image; `loads` are the episodes each node has now.

    The image's first preferred node that stays within SLACK times the mean load; an otherwise idle node takes any group.
    Nodes in `avoid` come last. ValueError when there is no node.

    >>> first, second = preferred_nodes("docker:a", 2)
    >>> [choose_node("docker:a", [0, 0], 8) == first, choose_node("docker:a", [0, 0], 8, avoid={first}) == second]
    [True, True]
    """
    if not loads:
        raise ValueError(f"no node can play {image}: there are no rollout workers")
    nodes = [node for node in preferred_nodes(image, len(loads)) if node not in avoid] or preferred_nodes(image, len(loads))
    bound = max(size, math.ceil(SLACK * (sum(loads[node] for node in nodes) + size) / len(nodes)))
    within = [node for node in nodes if loads[node] + size <= bound]
    return within[0] if within else min(nodes, key=lambda node: loads[node])


def _weight(image: str, node: int) -> bytes:
    return hashlib.blake2b(f"{node}/{image}".encode(), digest_size=8).digest()
