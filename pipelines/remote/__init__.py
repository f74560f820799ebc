"""Stages that run elsewhere: what goes along, what comes back, and who watches."""
