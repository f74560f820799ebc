#!/bin/bash
# Back up and restore MLflow's database: runs, metrics, registry, users. Artifacts are in S3: keep their bucket's versions.
#
#   backup.sh save FOLDER       a dump, compressed, readable to its owner alone; older ones beyond KEEP (14) go
#   backup.sh restore DUMP      into the empty database that the environment names, with no server running
#
# The database: PGHOST, PGPORT, PGUSER, PGDATABASE and PGPASSWORD or PGPASSWORD_FILE, as in mlflow.sh.
set -euo pipefail
umask 077

if [ -n "${PGPASSWORD_FILE:-}" ]; then
  PGPASSWORD=$(< "$PGPASSWORD_FILE")
  export PGPASSWORD
fi

case ${1:-} in
  save)
    folder=$2
    dump="$folder/mlflow-$(date -u +%Y%m%dT%H%M%SZ).dump"
    pg_dump --format=custom --no-owner --no-privileges --file "$dump.part" "${PGDATABASE:?}"
    pg_restore --list "$dump.part" > /dev/null # one that cannot be read is no backup
    mv "$dump.part" "$dump"
    find "$folder" -maxdepth 1 -name 'mlflow-*.dump' | sort -r | tail -n "+$((${KEEP:-14} + 1))" | xargs -r rm --
    echo "saved $dump"
    ;;
  restore)
    pg_restore --no-owner --no-privileges --exit-on-error --single-transaction --dbname "${PGDATABASE:?}" "$2"
    echo "restored $2"
    ;;
  *)
    echo "usage: backup.sh save FOLDER | restore DUMP" >&2
    exit 2
    ;;
esac
