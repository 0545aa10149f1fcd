"""Two knowledge graphs of the same emoji: what they are made from, what each knows, and the files they become."""
