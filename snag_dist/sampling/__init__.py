"""False triples to learn from, drawn by key: every worker can name the negatives of the whole batch.

negatives   a pool shared by a chunk of triples, or own draws for every triple
"""
