"""The published methods, equals, one file each: which encoder, noise, scorer, loss and sampler belong together.

snag   SNAG: attention over modality tokens, Gaussian noise masking
"""
