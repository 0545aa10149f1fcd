"""The feature store: a graph and its features on disk, made once and read by every job.

`sources` names where a graph may come from and `ingest` writes it through Ray Data; `extract` adds a modality
from an array (`array_features`), sentences (`sentences`, `encoders`) or the generated world, part by part
(`parts`). `manifest` says what a store must contain and `opened` refuses one that does not; `gather` reads
features by row from mapped arrays, `stream` hands triples to the workers. `schema` holds the layout and the
Arrow schemas.
"""
