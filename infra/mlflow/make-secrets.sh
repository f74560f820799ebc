#!/bin/bash
# Make the secrets of an MLflow server as files, random and readable to their owner alone, and beside them the folders
# that compose.yaml mounts, which Docker would make root's. What is there stays.
#
#   make-secrets.sh [FOLDER]      secrets/ beside this script, which git ignores
#
# Environment: ARTIFACTS_FOLDER and BACKUP_FOLDER, if compose.yaml is told others than artifacts/ and backups/.
set -euo pipefail
umask 077

folder=${1:-$(dirname "${BASH_SOURCE[0]}")/secrets}
mkdir -p "$folder"
for name in postgres-password s3-secret-key admin-password server-key; do
  test -e "$folder/$name" || openssl rand -hex 32 | tr -d '\n' > "$folder/$name"
done
test -e "$folder/s3-access-key" || printf mlflow > "$folder/s3-access-key"
echo "secrets are in $folder; MLflow's user is admin"
cd "$folder/.."
mkdir -p "${ARTIFACTS_FOLDER:-artifacts}" "${BACKUP_FOLDER:-backups}"
test "$(id -u)" = 1000 || echo "export OWNER=$(id -u) before docker compose: its containers are to run as you"
