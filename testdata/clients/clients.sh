#!/usr/bin/env bash
# clients.sh python|node|java SCRIPT [ARGUMENT...] runs a script with the real clients of other languages,
# which it installs once, at fixed versions, by pip, npm or Maven. Status 3: Python, Node or Java is missing.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$HERE/../servers/lib.sh"

JDBC_VERSION=42.7.13 # also in pom.xml

install_python() { rm -rf "$1" && python3 -m venv "$1" && "$1/bin/pip" install --quiet --disable-pip-version-check -r "$HERE/requirements.txt"; }
# npm finds the lock file out of date where a part of the path is a symbolic link.
install_node() { rm -rf "$1" && mkdir "$1" && cp "$HERE/package.json" "$HERE/package-lock.json" "$1" && npm ci --prefix "$(cd "$1" && pwd -P)" --ignore-scripts --no-audit --no-fund --silent; }

[ $# -ge 2 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
RUNTIME=$1
SCRIPT=$(cd "$(dirname "$2")" && pwd)/$(basename "$2")
shift 2
case $RUNTIME in
python)
  need python3 python3
  python3 -c 'import ensurepip' 2>/dev/null || missing "Python's venv" python3-venv
  dir=$CACHE/clients-python-$(cksum <"$HERE/requirements.txt" | cut -d' ' -f1)
  once "$dir" "installing the clients for Python into ${dir#"$CHECKOUT/"}" install_python "$dir"
  exec "$dir/bin/python" "$SCRIPT" "$@"
  ;;
node)
  need node nodejs
  need npm npm
  dir=$CACHE/clients-node-$(cksum <"$HERE/package-lock.json" | cut -d' ' -f1)
  once "$dir" "installing the clients for Node.js into ${dir#"$CHECKOUT/"}" install_node "$dir"
  case $SCRIPT in
  *.mjs)
    # ES modules are looked for beside the file that imports them; one that comes by standard
    # input has the current directory for that.
    cd "$dir"
    exec node --input-type=module - "$@" <"$SCRIPT"
    ;;
  *) NODE_PATH=$dir/node_modules exec node "$SCRIPT" "$@" ;;
  esac
  ;;
java)
  need java default-jre-headless maven
  jars=$CACHE/pgjdbc-$JDBC_VERSION
  maven_jars "$jars" "$HERE/pom.xml" "the JDBC driver $JDBC_VERSION (1 MB)" "postgresql.version=$JDBC_VERSION"
  # Java compiles the file by itself.
  exec java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$jars/*" "$SCRIPT" "$@"
  ;;
*) die "no runtime $RUNTIME: want python, node or java" ;;
esac
