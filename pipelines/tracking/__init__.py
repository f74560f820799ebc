"""MLflow: one parent run per pipeline, one child per stage, and the registry that versions are compared in.

What a stage tells:
run          what a stage uses: `stage_run` and its Tracker
spool        what is to be sent, on this machine's disk until it is; lines and mark are its files
sender       the thread that sends it; delivery sends one spool, leftovers those of earlier processes
family       the runs: found by their tags, or made once
machine      how busy the machine is
took         what work cost, beside the runs

Where it goes:
store        the connection: embedded SQLite or a server, with bounded time-outs
loading      the module mlflow, by one thread at a time
refusals     what servers answer, for a person
moved        the embedded store after the project's folder was moved

What a version is:
registry     versions and their tags; fetch finds them and their files, intact says which model files are
measurements what was measured of a version
gated        the gate's decision, carried out; champion moves the alias
model        a version as MLflow stores it; served.py is the code that travels with it
lineage      where a run came from: commit, versions, hardware; inputs its data, environment what is installed
origin       what a version came from, as files: the patch of changes, params.yaml, dvc.lock
"""
