"""The feature store: a graph and its features on disk, made once and read by every job.

Graph:
schema            layout of the files, Arrow schemas          manifest    what must be there; hashes, fingerprints
sources           where a graph may come from                 opened      the store as other packages read it
parquet_source, text_source, alignment_source                 findings    what the audit found, as it is kept
                  triples as blocks, and two graphs           missing     who loses a modality, over a feature table
keys              what is known of keys before and after      gather      features by row, from mapped arrays
key_runs, numbering   keys to places, partition by partition  stream      triples to the workers
reading, blocks   a source told in rows                       auditing    the audit, in parts where it is large
ingest            source to store: triple_files, fingerprint  pipeline    threads, and datasets of Ray Data, in order
core              the k-core of a store (core_record)

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
