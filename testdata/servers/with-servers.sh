#!/usr/bin/env bash
# Runs a command with a real Postgres and a real Kafka beside it, and leaves nothing behind.
#
#   with-servers.sh COMMAND [ARGUMENT...]
#
# The command finds the servers in its environment (postgres.sh and kafka.sh say under which names).
# POSTGRES_URL and KAFKA_BROKERS that are set already are used as they are. Where a server cannot be
# had for want of a program, the command runs without it, unless REQUIRE_INTEGRATION=1.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
[ $# -gt 0 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
SERVERS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

DIR=$(mktemp -d "${TMPDIR:-/tmp}/postrider-servers-XXXXXX")
chmod 755 "$DIR" # a server started by root runs as another user
CHILD=
STARTING=()
# Every background command gets a process group of its own, which can be ended as a whole.
set -m

# cleanup also ends the private servers of tests that were interrupted: the command's temporary
# files are below DIR too.
cleanup() {
  local server pid
  trap '' INT TERM
  # Whoever is still starting a server could start it after it has been looked for here.
  for pid in ${STARTING[@]+"${STARTING[@]}"}; do
    kill -TERM -- "-$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  for server in "$DIR"/*/; do
    if [ -f "$server/nodes" ]; then "$SERVERS/kafka.sh" stop "$server" --immediate || true; fi
    if [ -f "$server/port" ]; then "$SERVERS/postgres.sh" stop "$server" --immediate || true; fi
  done
  # Directories that Go makes for tests may be read-only.
  chmod -R u+w "$DIR" 2>/dev/null || true
  rm -rf "$DIR"
}
trap cleanup EXIT
trap 'interrupt INT 130' INT
trap 'interrupt TERM 143' TERM

# interrupt passes the signal to the whole group of the command, then waits for its end.
interrupt() {
  if [ -n "$CHILD" ]; then
    kill -"$1" -- "-$CHILD" 2>/dev/null || true
    wait "$CHILD" || true
  fi
  exit "$2"
}

# start NAME: an absent program (status 3) is no failure at a desk.
start() {
  local status=0
  "$SERVERS/$1.sh" start "$DIR/$1" >"$DIR/$1.env" || status=$?
  if [ $status = 3 ] && [ "${REQUIRE_INTEGRATION:-}" != 1 ]; then
    say "############ NO $1: TESTS THAT NEED IT ARE SKIPPED ############"
    return
  fi
  return $status
}

lacking=$("$SERVERS/missing.sh")
if [ -n "$lacking" ]; then
  say "this machine lacks something; on Debian or Ubuntu: apt-get install -y $lacking"
fi
if [ -z "${POSTGRES_URL:-}" ]; then start postgres & STARTING+=($!); fi
if [ -z "${KAFKA_BROKERS:-}" ]; then start kafka & STARTING+=($!); fi
for pid in ${STARTING[@]+"${STARTING[@]}"}; do wait "$pid" || die "a server did not start"; done
STARTING=()
for env in "$DIR"/*.env; do
  if [ -f "$env" ]; then . "$env"; fi
done

TMPDIR=$DIR "$@" &
CHILD=$!
status=0
wait "$CHILD" || status=$?
CHILD=
exit $status
