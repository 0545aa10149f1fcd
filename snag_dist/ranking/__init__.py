"""How far down the list the right answer stands: counting, ranks and metrics, on one worker's candidates.

questions   the distinct (head, relation, ?) and (?, relation, tail) behind triples, with their answers
ranks       candidates better than and equal to an answer; optimistic, pessimistic and realistic rank
similarity  cosine and CSLS of two lists of codes, by tiles in bounded memory; nearest neighbours that merge
pairs       ranks of linked pairs in both directions, from tiles whose counts add up
mutual      mutual nearest neighbours, for mining pairs
metrics     MRR, mean rank and hits as sums that add up over blocks, slices and directions
"""
