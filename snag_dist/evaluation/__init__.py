"""What is made of ranks: files of them, slices by the facts of the store, and a report with its protocol.

rank_files         per-query ranks as Parquet, block by block, so that an evaluation resumes
slices             metrics by direction, relation, degree, unseen entity and missing modality
report             metrics with the protocol they were measured under: JSON, and tables for people
alignment_report   the same for linked pairs: every way of asking, and the checks of the iterative stage
modality_weights   mean weight of every modality, by which modalities an entity has
method_name        what a run is called in a table, from its recipe
scored_runs        runs as their folders tell them
comparison         runs side by side: mean and deviation over seeds, what may be averaged and what not
comparison_table   the same as the papers print it, on a terminal and as CSV
comparison_plots   robustness, weights by presence, ablations
comparison_page    all of it as one HTML page
page               what any such page looks like
plot_style         what any picture of a report looks like
"""
