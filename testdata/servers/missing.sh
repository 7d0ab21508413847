#!/usr/bin/env bash
# Prints the Debian packages that `make test` needs and this machine lacks, in one line.
set -euo pipefail
packages=()
command -v gcc >/dev/null 2>&1 || packages+=(gcc libc6-dev) # the race detector links C
command -v openssl >/dev/null 2>&1 || packages+=(openssl)
if [ -z "${POSTGRES_URL:-}" ]; then
  command -v initdb >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || packages+=(postgresql)
fi
# The guides' snippets are run by it.
command -v psql >/dev/null 2>&1 || packages+=(postgresql-client)
# For Kafka, for Avro's Java library, which the schema parser is compared with, and for a snippet in Java.
command -v java >/dev/null 2>&1 || packages+=(default-jre-headless)
command -v mvn >/dev/null 2>&1 || packages+=(maven)
# For the clients of other languages: registry, consumers and snippets are tested with them.
python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3 python3-venv)
{ command -v node && command -v npm; } >/dev/null 2>&1 || packages+=(nodejs npm)
echo "${packages[*]}"
