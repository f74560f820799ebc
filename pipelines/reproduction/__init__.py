"""From a registered version back to commit, data and command: what is here of it, a checkout of it, and its check."""
