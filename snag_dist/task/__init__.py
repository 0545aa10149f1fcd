"""A task joins encoder, scorer and loss: batch in, `LossReport` out.

completion   which entity completes (head, relation, ?) and (?, relation, tail)
"""
