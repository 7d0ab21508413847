#!/usr/bin/env bash
# Runs a real Postgres with wal_level=logical on a free loopback port, for tests and benchmarks.
#
#   postgres.sh start DIR              makes the cluster where missing, starts it, prints the environment to eval
#   postgres.sh start DIR --standby-of PRIMARY  makes it as a standby of the one in PRIMARY, which is restarted for the
#                                      copy; it streams from the physical slot `standby`, which must exist there
#   postgres.sh promote DIR            makes a standby a primary
#   postgres.sh env DIR                prints that environment again
#   postgres.sh stop DIR [--immediate] stops it, with --immediate as a crash; `start` brings it back on its port
#
# DIR keeps data, log and certificates and may be removed after `stop`. The superuser `postgres` needs
# no password; members of the role `with_password` (create it where wanted) must give theirs. The
# server speaks TLS to those who ask.
#
# The binaries are those of PGVERSION (e.g. 17) under /usr/lib/postgresql when it is set, else the ones on
# PATH, else the newest under /usr/lib/postgresql. As root the server runs as user postgres or nobody.
# PGFSYNC=on makes commits durable (tests leave it off); PGSHARED_BUFFERS (default 128MB).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }

# choose_binaries sets BIN. A cluster stays with the binaries that made it.
choose_binaries() {
  local dir
  if [ -f "$DIR/binaries" ]; then
    BIN=$(cat "$DIR/binaries")
  elif [ -n "${PGVERSION:-}" ]; then
    BIN=/usr/lib/postgresql/$PGVERSION/bin
    [ -x "$BIN/initdb" ] || missing "Postgres $PGVERSION" "postgresql-$PGVERSION"
  elif command -v initdb >/dev/null 2>&1; then
    BIN=$(dirname "$(command -v initdb)")
  else
    BIN=
    for dir in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V); do
      if [ -x "$dir/initdb" ]; then BIN=$dir; fi
    done
    [ -n "$BIN" ] || missing Postgres postgresql
  fi
}

# choose_owner sets OWNER, the user that the server runs as: initdb and postgres refuse root.
choose_owner() {
  OWNER=
  [ "$(id -u)" = 0 ] || return 0
  need setpriv util-linux
  for OWNER in postgres nobody; do
    id "$OWNER" >/dev/null 2>&1 && return
  done
  die "neither a user postgres nor nobody exists to run the server as; make one with: useradd --system postgres"
}

# owned gives files to the server's user.
owned() { if [ -n "$OWNER" ]; then chown "$OWNER" "$@"; fi; }

# as_owner runs a command as the server's user, from a directory which that user can enter.
as_owner() (
  cd /
  if [ -n "$OWNER" ]; then
    exec setpriv --reuid="$OWNER" --regid="$(id -g "$OWNER")" --clear-groups env HOME=/ "$@"
  fi
  exec "$@"
)

configure() {
  local port
  [ -f "$DIR/port" ] && return
  if [ "${1:-}" = --standby-of ]; then
    configure_standby "$(cd "$2" && pwd)"
    return
  fi
  rm -rf "$DIR/data"
  mkdir "$DIR/data"
  chmod 700 "$DIR/data"
  owned "$DIR/data"
  if ! as_owner test -w "$DIR/data"; then
    die "user ${OWNER:-$(id -un)} cannot enter $DIR; choose a directory that it can enter, such as one below /tmp"
  fi
  as_owner "$BIN/initdb" --pgdata="$DIR/data" --username=postgres --auth=trust --no-locale --encoding=UTF8 --no-sync \
    >"$DIR/initdb.log" 2>&1 || { tail -20 "$DIR/initdb.log" >&2; die "initdb failed, see $DIR/initdb.log"; }
  certificates "$DIR/tls"
  # A key that its group or others can read is refused by the server.
  install -m 600 "$DIR/tls/server.key" "$DIR/data/server.key"
  install -m 644 "$DIR/tls/server.pem" "$DIR/data/server.crt"
  owned "$DIR/data/server.key" "$DIR/data/server.crt"
  port=$(free_port)
  cat >>"$DIR/data/postgresql.conf" <<P
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = ''
ssl = on
password_encryption = scram-sha-256
wal_level = logical
max_wal_senders = 64
max_replication_slots = 64
max_connections = 200
shared_buffers = ${PGSHARED_BUFFERS:-128MB}
max_wal_size = 4GB
fsync = ${PGFSYNC:-off}
full_page_writes = ${PGFSYNC:-off}
timezone = 'UTC'
P
  cat >"$DIR/data/pg_hba.conf" <<P
host all +with_password 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
host replication all 127.0.0.1/32 trust
P
  echo "$BIN" >"$DIR/binaries"
  echo "$port" >"$DIR/port"
}

# configure_standby copies a primary that is down.
configure_standby() {
  local port primary=$1
  BIN=$(cat "$primary/binaries")
  "$0" stop "$primary"
  rm -rf "$DIR/data"
  cp -a "$primary/data" "$DIR/data"
  "$0" start "$primary" >/dev/null
  rm -rf "$DIR/data/pg_replslot"/* # slots are not what a backup brings
  cp -a "$primary/tls" "$DIR/tls"
  port=$(free_port)
  cat >>"$DIR/data/postgresql.conf" <<P
port = $port
primary_conninfo = 'host=127.0.0.1 port=$(cat "$primary/port") user=postgres dbname=postgres application_name=standby'
primary_slot_name = 'standby'
hot_standby_feedback = on
P
  if [ "$(cat "$DIR/data/PG_VERSION")" -ge 17 ]; then
    echo "sync_replication_slots = on" >>"$DIR/data/postgresql.conf"
  fi
  touch "$DIR/data/standby.signal"
  owned "$DIR/data/standby.signal"
  echo "$BIN" >"$DIR/binaries"
  echo "$port" >"$DIR/port"
}

running() { [ -f "$DIR/port" ] && as_owner "$BIN/pg_ctl" --pgdata="$DIR/data" status >/dev/null 2>&1; }

launch() {
  running && return
  touch "$DIR/server.log"
  owned "$DIR/server.log"
  # In a session of its own, so that Ctrl-C reaches the tests first and `stop` ends the server.
  as_owner "$(command -v setsid || command -v nohup)" "$BIN/pg_ctl" --pgdata="$DIR/data" --log="$DIR/server.log" \
    --wait --timeout=60 start >/dev/null 2>&1 </dev/null ||
    { tail -20 "$DIR/server.log" >&2; die "the server did not start, see $DIR/server.log"; }
}

print_env() {
  [ -f "$DIR/port" ] || die "$DIR has no cluster; make one with: $0 start $DIR"
  cat <<E
export POSTGRES_URL='postgres://postgres@127.0.0.1:$(cat "$DIR/port")/postgres?sslmode=disable'
export POSTGRES_TLS_CA='$DIR/tls/ca.pem'
E
}

[ $# -ge 2 ] || usage
ACTION=$1
mkdir -p "$2"
DIR=$(cd "$2" && pwd)
shift 2
case $ACTION in
  start)
    choose_binaries
    choose_owner
    configure "$@"
    launch
    print_env
    ;;
  env) print_env ;;
  promote)
    choose_binaries
    choose_owner
    as_owner "$BIN/pg_ctl" --pgdata="$DIR/data" --wait --timeout=60 promote >/dev/null
    ;;
  stop)
    [ -f "$DIR/port" ] || exit 0
    choose_binaries
    choose_owner
    running || exit 0
    mode=fast
    if [ "${1:-}" = --immediate ]; then mode=immediate; fi
    as_owner "$BIN/pg_ctl" --pgdata="$DIR/data" --mode=$mode --wait --timeout=60 stop >/dev/null
    ;;
  *) usage ;;
esac
