"""The feature store: a graph and its features on disk, made once and read by every job.

Graph:
schema            layout of the files, Arrow schemas          manifest    what must be there; hashes, fingerprints
sources           where a graph may come from                 opened      the store as other packages read it
parquet_source    triples from Parquet, through Ray Data      findings    what the audit found, as it is kept
alignment_source  two graphs and their links                  missing     who loses a modality, over a feature table
vocabulary        keys to ids                                 gather      features by row, from mapped arrays
remap             ids to rows, in Ray Data's tasks            stream      triples to the workers
ingest            source to store                             pipeline    how our Ray Data pipelines run
fingerprint       what a run depends on, as one hash          core        the k-core of a store (core_record)

Features:
media             where pictures and texts are: folders, Parquet, WebDataset; sentences is the tab-separated file
encoders          a sentence or a picture to a vector
text_features (with name_texts), picture_features (with pictures, picture_maker), array_features (with vectors),
bag_features, world_features
                  what a recipe may ask for; each opens a source as a `modality`
extract           modalities to feature_tables, part by part: makers (the seam), parts, shard_files, statistics
reuse             vectors that were made before, taken over by key
feature_report    norms, duplicates, what cannot be used      samples     what a few entities look like
"""
