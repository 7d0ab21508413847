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

need java default-jre-headless maven
maven_jars "$JARS" "$HERE/pom.xml" "Avro $VERSION (6 MB)" "avro.version=$VERSION"
# The stack is for schemas nested as deep as the limit. Java compiles the file by itself.
exec java -Xss64m -Xmx256m -XX:+UseSerialGC -cp "$JARS/*" "$HERE/Oracle.java"
