"""What training minimises: scores in, a `LossReport` out.

losses        self-adversarial negative sampling
contrastive   alignment: contrast within the batch, NCA, divergence from the joint code, uncertainty weights
"""
