#!/usr/bin/env bash
# Runs Kafka Connect with Debezium's Postgres connector, to measure it beside the relay.
#
#   debezium.sh fetch                  fetches what is missing, prints the versions of Debezium and Java
#   debezium.sh run WORKER CONNECTOR   runs the two properties files until it is killed; logs to standard error
#
# With Java 17 and Maven the jars are fetched once into $POSTRIDER_CACHE (default: .cache in the
# checkout). Java is that of DEBEZIUM_JAVA_HOME, else the newest under /usr/lib/jvm, else the one on
# PATH. DEBEZIUM_HEAP (default 1g) is the size of the heap. Exits with status 3 where a program is
# missing.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$HERE/../../testdata/servers/lib.sh"

VERSION=3.7.0.Final # also in pom.xml
JARS=$CACHE/debezium-$VERSION

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }

# choose_java sets JAVA and RELEASE. A newer Java is faster, and Debezium shall run at its best.
choose_java() {
  local home release
  JAVA=$(command -v java || true) RELEASE=0
  for home in ${DEBEZIUM_JAVA_HOME:-/usr/lib/jvm/*}; do
    [ -x "$home/bin/java" ] && [ -f "$home/release" ] || continue
    release=$(sed -n 's/^JAVA_VERSION="\([0-9]*\).*/\1/p' "$home/release")
    if [ "${release:-0}" -gt "$RELEASE" ]; then JAVA=$home/bin/java RELEASE=$release; fi
  done
  [ -n "$JAVA" ] || missing java default-jre-headless
}

case ${1:-} in
  fetch)
    [ $# = 1 ] || usage
    choose_java
    maven_jars "$JARS" "$HERE/pom.xml" "Debezium $VERSION (45 MB)" "debezium.version=$VERSION"
    echo "Debezium $VERSION on Kafka Connect, $("$JAVA" -version 2>&1 | sed -n '1s/"//gp')"
    ;;
  run)
    [ $# = 3 ] || usage
    choose_java
    exec "$JAVA" "-Xms${DEBEZIUM_HEAP:-1g}" "-Xmx${DEBEZIUM_HEAP:-1g}" "-Dlog4j2.configurationFile=$HERE/log4j2.xml" \
      -cp "$JARS/*" org.apache.kafka.connect.cli.ConnectStandalone "$2" "$3"
    ;;
  *) usage ;;
esac
