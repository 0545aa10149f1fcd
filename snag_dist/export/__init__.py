"""Handing a trained encoder over: to somebody who knows neither Ray nor this project.

This room has no imports of its own: `snag_dist.export.hf` must come without Ray, DeepSpeed and Arrow.

hf/          what loads an export: torch, safetensors and transformers alone; its files are copied into every export
"""
