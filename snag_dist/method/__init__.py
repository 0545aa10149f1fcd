"""The published methods, equals, one file each: which encoder, noise, scorer, loss and sampler belong together.

snag             SNAG: attention over modality tokens, Gaussian noise masking
adamf            AdaMF: modalities weighted anew for every entity; AdaMF-MAT with an adversary
snag_alignment   SNAG: joint codes, confident pairs, modalities before and after attention
eva              EVA: a GCN, neighbourhood component analysis
mclea            MCLEA: contrast in each modality, divergence from the joint code
meaformer        MEAformer: joint codes weighted by confidence
facts            what every method is told of a graph; completion tasks drawn from a seed
choices          the choice among all of them
assembly         how the methods of alignment are put together
"""
