"""Folders that any machine can have: stored by what they hold, below `storage.uri`, and kept on each machine once."""
