#!/bin/sh
# A small S3 store on a folder, with its bucket, for a server on one machine. It keeps MLflow's artifacts and DVC's objects;
# storage.uri wants a store with conditional writes, as Amazon S3 has.
#
# Environment: S3_DATA (/data), S3_ADDRESS (:9000), S3_BUCKET (mlflow), SECRETS (/run/secrets), the folder that holds the
# files s3-access-key and s3-secret-key.
set -eu

secrets=${SECRETS:-/run/secrets}
data=${S3_DATA:-/data}
mkdir -p "$data/${S3_BUCKET:-mlflow}"
# In quotes, as one entry of a list.
RCLONE_AUTH_KEY=$(printf '"%s,%s"' "$(cat "$secrets/s3-access-key")" "$(cat "$secrets/s3-secret-key")")
export RCLONE_AUTH_KEY
exec rclone serve s3 --addr "${S3_ADDRESS:-:9000}" --vfs-cache-mode off "$data"
