# shellcheck shell=bash
# Shared by kafka.sh and postgres.sh; sourced, not run.

CHECKOUT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
CACHE=${POSTRIDER_CACHE:-$CHECKOUT/.cache}

say() { echo "${0##*/}: $*" >&2; }
die() { say "$@"; exit 1; }

# missing WHAT DEBIAN_PACKAGE... ends with the one command that installs it, and with a status that
# lets callers tell an absent program (3) from one that failed (1).
missing() {
  say "$1 is missing; on Debian or Ubuntu: apt-get install -y ${*:2}"
  exit 3
}

# need COMMAND DEBIAN_PACKAGE...
need() { command -v "$1" >/dev/null 2>&1 || missing "$@"; }

# once DIR WHAT COMMAND... runs COMMAND, which fills DIR, unless that was done before; WHAT is said then.
once() {
  local dir=$1
  [ -f "$dir/complete" ] && return
  mkdir -p "$(dirname "$dir")"
  (
    # Two runs started side by side must not write into the same directory.
    ! command -v flock >/dev/null 2>&1 || flock 9
    [ -f "$dir/complete" ] && exit
    say "$2 (once)"
    # Standard input and output may be a conversation with whoever started the script.
    "${@:3}" </dev/null >&2
    touch "$dir/complete"
  ) 9>"$dir.lock"
}

# maven_jars DIR POM WHAT VERSION_PROPERTY [ELSE] fetches the jars that POM names into DIR, once. ELSE
# is what one can do where that fails.
maven_jars() {
  [ -f "$1/complete" ] || need mvn maven
  once "$1" "fetching the jars of $3 by Maven into $1" copy_jars "$@"
}

copy_jars() {
  mkdir -p "$1"
  mvn -B -q -Dstyle.color=never -f "$2" dependency:copy-dependencies "-D$4" -DincludeScope=runtime -DoutputDirectory="$1" ||
    die "Maven could not fetch ${3% (*}; check the network${5:-}"
}

# free_port prints a loopback port that nobody listens on. The range ends below the one from
# which Linux takes the ports of outgoing connections: such a connection, made by a test
# that runs beside us, could otherwise take the port before the server binds it.
free_port() {
  local port
  for _ in $(seq 100); do
    port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      echo "$port"
      return
    fi
  done
  die "no free port found between 20000 and 32000 on 127.0.0.1"
}

# runs PIDFILE WORD: whether the process in PIDFILE lives and has WORD in its command line. Without
# the second test a stale file could name a process of somebody else.
runs() {
  local pid
  [ -s "$1" ] || return 1
  pid=$(cat "$1")
  if [ -r "/proc/$pid/cmdline" ]; then
    tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -- "$2"
  else
    ps -ww -o command= -p "$pid" 2>/dev/null | grep -qF -- "$2"
  fi
}

# certificates DIR makes a throw-away authority and, signed by it, a certificate for a server on
# loopback and one for a client: ca.pem, server.pem, server.key, client.pem, client.key.
certificates() {
  local dir=$1 name usage
  [ -f "$dir/complete" ] && return
  need openssl openssl
  mkdir -p "$dir"
  openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj "/CN=postrider test authority" \
    -keyout "$dir/ca.key" -out "$dir/ca.pem" 2>/dev/null
  for name in server client; do
    usage=${name}Auth
    openssl req -newkey rsa:2048 -nodes -subj "/CN=postrider-$name" \
      -keyout "$dir/$name.key" -out "$dir/$name.csr" 2>/dev/null
    openssl x509 -req -in "$dir/$name.csr" -days 3650 -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -CAcreateserial \
      -extfile <(printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=%s\n' "$usage") \
      -out "$dir/$name.pem" 2>/dev/null
    rm "$dir/$name.csr"
  done
  touch "$dir/complete"
}
