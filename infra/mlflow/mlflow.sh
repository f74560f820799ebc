#!/bin/bash
# MLflow's server on PostgreSQL and S3, with passwords. What runs in the image of infra/mlflow/Dockerfile:
#
#   mlflow.sh serve      bring the tables up to date, then serve on HOST (127.0.0.1) and PORT (5000)
#   mlflow.sh migrate    bring the tables up to date only: after a backup, before another version of MLflow serves
#
# Environment; each of the secrets can be a file instead, named by NAME_FILE:
#   PGHOST PGPORT PGUSER PGDATABASE     the database, as libpq reads them
#   PGPASSWORD                          secret
#   ARTIFACTS                           s3://bucket/prefix; with AWS_ENDPOINT_URL where the store is not Amazon's
#   AWS_ACCESS_KEY_ID                   secret; none where the machine has a role
#   AWS_SECRET_ACCESS_KEY               secret
#   MLFLOW_AUTH_ADMIN_PASSWORD          secret; made the password of `admin` at the first start
#   MLFLOW_FLASK_SERVER_SECRET_KEY      secret; the same for all servers
#   MLFLOW_SERVER_ALLOWED_HOSTS         the names under which browsers and pipelines ask for the server
set -euo pipefail

for name in PGPASSWORD AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY; do
  file="${name}_FILE"
  if [ -n "${!file:-}" ]; then
    export "$name=$(< "${!file}")"
  fi
done

# No secret in an address: libpq takes host, user and password from the environment, and nothing of it is in a log or in
# the list of processes.
database="postgresql+psycopg2:///${PGDATABASE:?}"
MLFLOW_AUTH_CONFIG_PATH=$(mktemp)
export MLFLOW_AUTH_CONFIG_PATH
# Whoever has a password reads everything and writes what he has made himself.
printf '%s\n' '[mlflow]' 'default_permission = READ' "database_uri = $database" \
  'authorization_function = mlflow.server.auth:authenticate_request_basic_auth' 'grant_default_workspace_access = false' \
  > "$MLFLOW_AUTH_CONFIG_PATH"
export MLFLOW_AUTH_ADMIN_USERNAME=${MLFLOW_AUTH_ADMIN_USERNAME:-admin}
# Jobs of the server would run code that a client names.
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
export MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false

migrate() {
  # An empty database has nothing to bring up to date: the server makes the tables itself.
  if python -c "import sys, sqlalchemy as s; sys.exit('experiments' not in s.inspect(s.create_engine('$database')).get_table_names())"; then
    mlflow db upgrade "$database"
  fi
  python -m mlflow.server.auth db upgrade --url "$database"
}

case ${1:-serve} in
  migrate)
    migrate
    ;;
  serve)
    migrate
    exec mlflow server --app-name basic-auth --backend-store-uri "$database" --artifacts-destination "${ARTIFACTS:?}" \
      --host "${HOST:-127.0.0.1}" --port "${PORT:-5000}" --workers "${WORKERS:-2}"
    ;;
  *)
    echo "mlflow.sh: serve or migrate, got $1" >&2
    exit 2
    ;;
esac
