"""The feature store: a graph and its features on disk, made once and read by every job.

schema            layout of the files, Arrow schemas          manifest    what must be there; hashes, fingerprints
sources           where a graph may come from                 opened      the store as other packages read it
parquet_source    triples from Parquet, through Ray Data      findings    what the audit found, as it is kept
vocabulary        keys to ids                                 gather      features by row, from mapped arrays
remap             ids to rows, in Ray Data's tasks            stream      triples to the workers
ingest            source to store                             pipeline    how our Ray Data pipelines run
extract           recipe to feature tables, part by part (parts), with column statistics (statistics)
modality          what extraction is handed: from sentences, array_features (vectors) or world_features
encoders          sentence to vector
"""
