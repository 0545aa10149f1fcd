"""Knowledge graphs in memory, and what can be said about them before any training.

`graph` is the one shape a graph has, `formats` reads the published layouts into it (with `lines`, `labels`,
`ntriples` for what stands in the files and `columns` for the checks on what came out), `truth` answers which
triples are known to be true, `audit` looks for what makes a benchmark lie (duplicates, overlaps, inverse
relations), `repair` makes a clean split, `core` finds the k-core, and `world` draws a graph from a seed.

For alignment, `alignment` holds two graphs and their links (`alignment_formats` reads them), `links` splits the links,
`missing` drops a modality from a share of the entities, `bags` counts relations and attributes, and `adjacency` has
the edges that structure encoders pass codes along.
"""
