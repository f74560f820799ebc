"""What the stages reference, sample and evaluate compute, chunk by chunk, on any number of workers.

Each task is a function of a small frozen dataclass (what to do) and one chunk (on what). The chunks are the same for
any number of workers, so the results are, too.
"""
