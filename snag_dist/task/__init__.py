"""A task joins encoder, scorer and loss: batch in, `LossReport` out.

completion   which entity completes (head, relation, ?) and (?, relation, tail)
adversarial  completion against generators that make up modalities (AdaMF-MAT)
alignment    which entity of one graph is which of the other
"""
