"""Entities spread over workers: who owns which rows, their optimiser, and the way ids and codes travel.

group       the workers of a run and the collectives they share; a group of one needs no network
partition   virtual shards and the contiguous rows each worker owns
exchange    ids out to owners, codes back, with gradient
table       a worker's learned rows; initial_rows, row_optimizers and placement (device, host, disk) are its parts
ranking     exact filtered ranks, counted where the candidates live: block_ranking, or faster by first_pass, whose
            ties mixed_calls scores again
"""
