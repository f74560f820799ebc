#!/bin/bash
# Make a certificate authority and one certificate for the machines of a Ray cluster, for RAY_USE_TLS=1.
#
#   make-certificates.sh FOLDER NAME_OR_ADDRESS ..
#
# names: how the machines are spoken to, for example head.example.com, 10.0.0.7, *.ray.svc.cluster.local. localhost and
# 127.0.0.1 are always among them. An authority that is there already is used again, so that certificates can be added or
# renewed. FOLDER/ca.key signs new machines in: keep it off the cluster.
# Environment: DAYS (90) that the certificate is good for.
set -euo pipefail
umask 077

test $# -ge 2 || { echo "usage: make-certificates.sh FOLDER NAME_OR_ADDRESS .." >&2; exit 2; }
folder=$1
shift
mkdir -p "$folder"
cd "$folder"

names="DNS:localhost,IP:127.0.0.1"
for name in "$@"; do
  if [[ $name =~ ^[0-9.]+$ || $name == *:* ]]; then
    names+=",IP:$name"
  else
    names+=",DNS:$name"
  fi
done

if [ ! -e ca.key ]; then
  openssl req -x509 -newkey rsa:3072 -nodes -sha256 -days 3650 -subj "/CN=diffusion pipelines" \
    -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign" \
    -keyout ca.key -out ca.crt 2> openssl.log || { cat openssl.log >&2; exit 1; }
fi
openssl req -new -newkey rsa:3072 -nodes -sha256 -subj "/CN=ray" -keyout tls.key -out tls.csr 2> openssl.log \
  || { cat openssl.log >&2; exit 1; }
openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -sha256 -days "${DAYS:-90}" -out tls.crt \
  -extfile <(printf '%s\n' "basicConstraints=critical,CA:FALSE" "keyUsage=critical,digitalSignature,keyEncipherment" \
    "extendedKeyUsage=serverAuth,clientAuth" "subjectAltName=$names") 2> openssl.log || { cat openssl.log >&2; exit 1; }
rm -f tls.csr openssl.log

echo "made in $folder: ca.crt, tls.crt and tls.key for every machine of the cluster and every driver; there set"
echo "  RAY_USE_TLS=1 RAY_TLS_CA_CERT=.../ca.crt RAY_TLS_SERVER_CERT=.../tls.crt RAY_TLS_SERVER_KEY=.../tls.key"
