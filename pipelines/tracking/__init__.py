"""MLflow: one parent run per pipeline, one child per stage, and the registry that versions are compared in.

run         what a stage uses: `stage_run` and its Tracker
spool       what is to be sent, on this machine's disk until it is
sender      the thread that sends it
loading     the module mlflow, by one thread at a time
store       the connection: embedded SQLite or a server, with bounded time-outs
lineage     where a run came from: commit, versions, hardware
registry    versions, their tags, the alias `champion`
gate        whether a version becomes champion
model       a version as MLflow stores it; served.py is the code that travels with it
moved       the embedded store after the project's folder was moved
"""
