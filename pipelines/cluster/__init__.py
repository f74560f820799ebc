"""Work on Ray: a session, functions over many items (parallel), and training.

trainer     Ray Train around the loop; job: what a worker is told; loop: what it does; assemble and
            objective: the objects it needs
board       what worker 0 tells the driver (events), and what a person sees of it (watch)
record      what a checkpoint says of its run; not_finite: the message of a loss that is not; outcome: a finished run
"""
