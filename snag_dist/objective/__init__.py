"""What training minimises: scores in, a `LossReport` out.

losses   self-adversarial negative sampling
"""
