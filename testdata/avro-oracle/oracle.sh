#!/usr/bin/env bash
# Answers questions about Avro schemas with Avro's Java library; Oracle.java says how to ask.
#
# Runs until the end of its standard input. Needs Java 17 and, the first time, Maven, which fetches
# the library's 6 MB of jars into $POSTRIDER_CACHE (default: .cache in the checkout).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../servers/lib.sh"

VERSION=1.12.1 # also in pom.xml
HERE=$CHECKOUT/testdata/avro-oracle
JARS=$CACHE/avro-$VERSION

fetch_jars() {
  [ -f "$JARS/complete" ] && return
  need mvn maven
  mkdir -p "$JARS"
  (
    # Two tests started side by side must not write into the same directory.
    ! command -v flock >/dev/null 2>&1 || flock 9
    [ -f "$JARS/complete" ] && exit
    say "fetching the jars of Avro $VERSION by Maven into $JARS (6 MB, once)"
    # The questions on standard input are not for Maven, and only answers go to standard output.
    mvn -B -q -Dstyle.color=never -f "$HERE/pom.xml" dependency:copy-dependencies \
      -Davro.version="$VERSION" -DincludeScope=runtime -DoutputDirectory="$JARS" </dev/null >&2 ||
      die "Maven could not fetch Avro's Java library; check the network"
    touch "$JARS/complete"
  ) 9>"$JARS.lock"
}

need java default-jre-headless maven
fetch_jars
# The stack is for schemas nested as deep as the limit. Java compiles the file by itself.
exec java -Xss64m -Xmx256m -XX:+UseSerialGC -cp "$JARS/*" "$HERE/Oracle.java"
