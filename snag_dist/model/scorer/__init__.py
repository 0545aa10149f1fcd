"""How plausible a triple is: a scorer turns (entity, relation) into a query and compares queries with candidates.

Every score is `similarity(query, candidate)`, where the query stands for the known entity and the relation. So one
query is compared with many candidates at once, in training and in ranking alike, and corrupting heads is no special
case.

seam       what all scorers promise
products   inner products, and the scorers that multiply codes coordinate by coordinate
distances  Euclidean and L1 distances of many pairs
rounding   how far a computed score may lie from the true one
rotate     RotatE: relations turn
transe     TransE: relations move
distmult   DistMult: relations stretch
complex    ComplEx: relations stretch and turn
tucker     TuckER: relations mix the coordinates through a learned core
choices    the closed union of their configs
"""

from snag_dist.model.scorer.choices import ScorerConfig
from snag_dist.model.scorer.complex import ComplEx, ComplExConfig
from snag_dist.model.scorer.distmult import DistMult, DistMultConfig
from snag_dist.model.scorer.products import Factorisation
from snag_dist.model.scorer.rotate import RotatE, RotatEConfig
from snag_dist.model.scorer.rounding import Rounding
from snag_dist.model.scorer.seam import Scorer
from snag_dist.model.scorer.transe import TransE, TransEConfig
from snag_dist.model.scorer.tucker import TuckER, TuckERConfig

__all__ = [
    "ComplEx",
    "ComplExConfig",
    "DistMult",
    "DistMultConfig",
    "Factorisation",
    "RotatE",
    "RotatEConfig",
    "Rounding",
    "Scorer",
    "ScorerConfig",
    "TransE",
    "TransEConfig",
    "TuckER",
    "TuckERConfig",
]
