"""The stages of the pipeline and the commands around them; see ARCHITECTURE.md for the map.

Importing this package imports nothing heavy: torch, ray, mlflow and matplotlib are imported inside the functions that
need them, so that `--help` answers at once.
"""
