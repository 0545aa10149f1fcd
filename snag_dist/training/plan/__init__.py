"""What a run will need, said before anything is allocated.

Inside `training`, since the driver of a run asks it, and its calibration takes real steps.

config       what a person tells of a graph that is not there yet, and of the cluster
sizes        counts of a graph, from its store or from the config
activations  bytes that a step holds for its way back, counted on a few entities
memory       bytes of a worker, phase by phase
traffic      bytes that travel in a step
calibration  seconds of a step, from a few real ones on made-up rows
cost         hours of a run, and its price
verdict      whether it fits, and which field to change where it does not
report       all of it in lines for a person
"""
