"""Pictures and sentences where users keep them: folders, Parquet, WebDataset shards.

A picture is a range of bytes of a file (items), so a job holds references and only its actors read.

items      references, and what a source lists             folder       <key>/*.jpg and <key>.0.jpg
listing    references as columns, sorted and grouped       parquet      in or named by a column (spool)
names      names of files to keys and back                 webdataset   tar shards, by their headers (tar_index)
restricted_pickle   dictionaries of vectors, without unpickling (pickle_machine)
"""
