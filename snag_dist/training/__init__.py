"""Training: from a recipe to the best checkpoint and the ranks of the test split.

recipe       everything a person chooses for a run
launch       the driver: checks, Ray Train, what comes back
worker       what one worker does, a function of (recipe, context)
loop         one screen: step, log, evaluate, checkpoint, stop
step         one optimisation step over sharded entities
batches      slices of the global batch, from memory or from a stream
prefetch     the next batch, drawn while a step computes; feature_reading: the raw vectors of its entities
scoring      codes of all entities and exact ranks of a split
schedule     learning rate by step
engine       the only door to DeepSpeed
checkpoint   what a run needs to go on
telemetry    log lines, TensorBoard, and what else a run records to (recorder)
gauges       numbers of a run for Prometheus, through Ray
trackers     MLflow, Weights & Biases
run_folder   where a run keeps its files
"""
