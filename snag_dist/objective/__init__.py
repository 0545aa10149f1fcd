"""What training minimises: scores in, a `LossReport` out.

losses        self-adversarial negative sampling
all_entities  cross-entropy over every entity, in blocks, over any number of owners
cubes         N3: the cubes of what a score multiplies
gram          alignment: rows of cosines that several losses share, with a gradient of their own
contrastive   alignment: contrast within the batch, NCA, divergence from the joint code, uncertainty weights
"""
