"""Handing a trained encoder over: to somebody who knows neither Ray nor this project.

This room has no imports of its own: `snag_dist.export.hf` must come without Ray, DeepSpeed and Arrow.

hf/          what loads an export: torch, safetensors and transformers alone; its files are copied into every export
directory    from a run folder to a directory, whole or not at all
source       the best checkpoint of a run, encoded block by block
tables       per-entity tables in safetensors files of bounded size
people       which row is whom
relations    the relation table, and how it makes scores
network      config, weights and code for transformers
provenance   where an export comes from
card         the model card
consumers/   KoPA, KBLaM, LLaVA, FAISS, Parquet
"""
