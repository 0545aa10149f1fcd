"""The network: from an entity's raw features and learned row to its code, and from codes to scores.

noise       what is done to the inputs in training (GMNM: Gaussian noise on a random share of entities)
dropout     masks keyed by entity, so that they do not depend on the number of workers
features    raw vectors of a modality, their presence and statistics, and the projection to the common width
attention   one post-LN attention layer over the modality tokens of an entity
fusion      tokens -> one code per entity (attention, weighted sums, concatenation, or the graph token alone)
encoder     all of the above: entity inputs -> codes, tokens, confidence
scorer      how plausible a triple is, given codes and a relation
modulus     the distance under RotatE's score: compiled on a CPU, fused on a GPU, blocked elsewhere
structure   codes from the codes of neighbours (GAT, GCN), edge by edge
aggregation sums over edges, forward and backward, in a fixed order
views       what alignment makes of an entity: tokens before and after attention, confidence
joint       tokens at unit length, weighted and laid side by side: the code of alignment
generator   fake modality tokens, for the adversary of AdaMF-MAT
"""
