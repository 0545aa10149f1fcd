"""What others read: the codes of an export in the files that their programs open.

handed       what a consumer's writer is given
kopa         KoPA: a `.pth` with two tables, entities in the order of the source
kblam        KBLaM: `.npy` keys and values, one of each a training triple, and the triples in words
llava        LLaVA: a projector to the width of an LLM, fitted to its embeddings of the names
faiss_index  FAISS: nearest entities by cosine, with a `search` helper
parquet      Parquet for `datasets.load_dataset`
"""
