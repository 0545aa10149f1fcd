"""Two small graphs of the same random shape in the DBP15K layout, linked one to one."""

from pathlib import Path

import numpy as np

NUM_LINKS = 120


def write_pair(folder: Path) -> None:
    """Write them into a folder; a tenth of the second one's triples are drawn anew, and ids interleave."""
    num = NUM_LINKS
    draw = np.random.default_rng(0)
    triples = np.stack([draw.integers(limit, size=500) for limit in (num, 12, num)], axis=1)
    other = triples.copy()
    other[draw.random(500) < 0.1, 2] = draw.integers(num)
    order = draw.permutation(num)
    for number, listed in ((1, triples), (2, other)):
        name = "left" if number == 1 else "right"
        ids = [2 * (entity if number == 1 else order[entity]) + number - 1 for entity in range(num)]
        lines = [f"{ids[entity]}\thttp://{name}/resource/{name}_{entity}" for entity in range(num)]
        (folder / f"ent_ids_{number}").write_text("\n".join(lines) + "\n")
        rows = [f"{ids[head]}\t{relation}\t{ids[tail]}" for head, relation, tail in listed.tolist()]
        (folder / f"triples_{number}").write_text("\n".join(rows) + "\n")
        attributes = [f"http://{name}/resource/{name}_{entity}\tsize{entity % 7}\tage" for entity in range(num)]
        (folder / f"training_attrs_{number}").write_text("\n".join(attributes) + "\n")
    links = [f"{2 * entity}\t{2 * order[entity] + 1}" for entity in range(num)]
    (folder / "ill_ent_ids").write_text("\n".join(links) + "\n")
