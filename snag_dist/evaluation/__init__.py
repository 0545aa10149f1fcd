"""What is made of ranks: files of them, slices by the facts of the store, and a report with its protocol.

rank_files   per-query ranks as Parquet, block by block, so that an evaluation resumes
slices       metrics by direction, relation, degree, unseen entity and missing modality
report       metrics with the protocol they were measured under: JSON, and tables for people
alignment_report   the same for linked pairs: every way of asking, and the checks of the iterative stage
modality_weights   mean weight of every modality, by which modalities an entity has
"""
