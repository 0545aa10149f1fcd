"""Every triple asks twice; equal questions are asked once."""

import numpy as np

from snag_dist.ranking.questions import Questions

# Triples 0 and 2 share (head 4, relation 1); triples 0 and 1 share (relation 1, tail 2); the last repeats triple 1.
TRIPLES = np.array([[4, 1, 2], [3, 1, 2], [4, 1, 0], [3, 1, 2]], dtype=np.int64)


def test_distinct_questions_and_their_answers_by_hand() -> None:
    questions = Questions.of(TRIPLES)
    asked = list(zip(questions.known, questions.relation, questions.find_tail, strict=True))
    assert asked == [(0, 1, False), (2, 1, False), (3, 1, True), (4, 1, True)]
    assert [questions.answers[i].tolist() for i in range(4)] == [[4], [3, 3, 4], [2, 2], [0, 2]]
    assert (len(questions), questions.num_queries) == (4, 8)


def test_the_triple_behind_every_answer_is_one_of_the_given_in_both_directions() -> None:
    questions = Questions.of(TRIPLES)
    find_tail = questions.find_tail[questions.answers.queries()]
    for direction in (True, False):
        found = questions.triples()[find_tail == direction]
        assert sorted(found.tolist()) == sorted(TRIPLES.tolist())


def test_a_part_keeps_answers_with_their_questions() -> None:
    part = Questions.of(TRIPLES).part(1, 3)
    assert part.known.tolist() == [2, 3]
    assert part.answers.offsets.tolist() == [0, 3, 5]
    assert part.triples().tolist() == [[3, 1, 2], [3, 1, 2], [4, 1, 2], [3, 1, 2], [3, 1, 2]]


def test_no_triples_ask_nothing() -> None:
    questions = Questions.of(np.empty((0, 3), dtype=np.int64))
    assert (len(questions), questions.num_queries) == (0, 0)
    assert questions.triples().shape == (0, 3)


def test_questions_differ_by_relation_and_by_direction() -> None:
    questions = Questions.of(np.array([[5, 0, 5], [5, 1, 5]], dtype=np.int64))
    assert questions.relation.tolist() == [0, 1, 0, 1]
    assert questions.find_tail.tolist() == [False, False, True, True]


def test_a_question_in_words() -> None:
    questions = Questions.of(np.array([[7, 3, 9]], dtype=np.int64))
    assert questions.describe(0) == "question (head ?, relation 3, tail row 9)"
    assert questions.describe(1) == "question (head row 7, relation 3, tail ?)"
