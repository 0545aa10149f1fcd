"""Who watches a log hears of every whole line that came while the block ran, in order, before the block is over."""

import json
from pathlib import Path

from snag_dist.training.progress import watch


def test_lines_of_the_block_are_told_once_and_in_order(tmp_path: Path) -> None:
    log, heard = tmp_path / "log.jsonl", list[int]()
    log.write_text(f"{json.dumps({'step': 1})}\n")
    with watch(log, lambda line: heard.append(line["step"])), log.open("a") as file:
        for step in range(2, 200):
            file.write(f"{json.dumps({'step': step})}\n")
            file.flush()
        # A line that is being written is not told, nor what came before the block.
        file.write('{"step": 200')
        file.flush()
    assert heard == list(range(2, 200))


def test_a_log_that_comes_late_and_one_that_never_comes(tmp_path: Path) -> None:
    heard: list[int] = []
    with watch(tmp_path / "log.jsonl", lambda line: heard.append(line["step"])):
        (tmp_path / "log.jsonl").write_text(f"{json.dumps({'step': 1})}\n")
    with watch(tmp_path / "none" / "log.jsonl", lambda line: heard.append(line["step"])):
        pass
    assert heard == [1]
