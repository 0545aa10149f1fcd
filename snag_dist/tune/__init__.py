"""Search over recipes: GMNM first, any other field of a recipe as well.

space      parameters: a dotted field and the values it may take; the space that comes along
config     what a person chooses for a sweep; how a recipe file carries it
strategy   of that: which settings are tried, and which of them are trained to the end
trial      one training of a sweep: its recipe, its folder, what is read back from it
search     which settings are tried: grid, random, TPE over settings that stand for several seeds
rounds     Ray Tune: trials placed, stopped early, gone on with
setting    trials grouped over their seeds
ladder     rungs: all settings on a small graph for few epochs, the best of each rung on to the next
prediction how well the ranking on a rung predicted that on the whole, and what rungs cost
outcome    settings, the winner, and the winner without GMNM
sweep      all of it: rounds, the test split once, best.toml, report
toml       a plain tree as TOML
table      the outcome on a terminal, and as CSV
plots      the outcome as pictures
rung_table, rank_plot   the rungs in words, as a table, as a picture
page       the outcome as one HTML page
"""
