"""Programs one submits, thin over `snag_dist.api`: each reads its options, calls one verb, prints what it returns.

ingest.py     raw graph and features -> feature store
train.py      recipe -> store if missing, training, test ranks
evaluate.py   run folder -> ranks and slices of a split
"""
