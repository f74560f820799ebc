"""Training as a function of the step: what is drawn, the gradient, the update, and the state between two steps.

random      keys and generators: every number drawn is a function of seed, stream and position
batches     which images a step sees; times: which time each is noised to; draws: noise, flips, dropout of a virtual
            shard; shard: what of them another process can make ahead; minibatch: all of them together
objective   the loss of a minibatch; tally: what it says of the bound; gradient: all of it in one flat tensor
tree        the sum of the shards in one fixed order; messages: what it sends; reduction: strict and fast
rate, optimizer, health, step       one update, and what stops it
history, points, validation, state  the curves, the bound while training, everything that a checkpoint keeps

Nothing is imported here, so that `points` can be read without torch.
"""
