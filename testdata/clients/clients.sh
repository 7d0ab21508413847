#!/usr/bin/env bash
# clients.sh python|node SCRIPT runs a script of this directory with the real clients of other
# languages, which it installs once, at fixed versions, by pip or npm. Status 3: Python or Node is missing.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$HERE/../servers/lib.sh"

install_python() { rm -rf "$1" && python3 -m venv "$1" && "$1/bin/pip" install --quiet --disable-pip-version-check -r "$HERE/requirements.txt"; }
# npm finds the lock file out of date where a part of the path is a symbolic link.
install_node() { rm -rf "$1" && mkdir "$1" && cp "$HERE/package.json" "$HERE/package-lock.json" "$1" && npm ci --prefix "$(cd "$1" && pwd -P)" --ignore-scripts --no-audit --no-fund --silent; }

case ${1:-} in
python)
  need python3 python3
  python3 -c 'import ensurepip' 2>/dev/null || missing "Python's venv" python3-venv
  dir=$CACHE/clients-python-$(cksum <"$HERE/requirements.txt" | cut -d' ' -f1)
  once "$dir" "installing the clients for Python into ${dir#"$CHECKOUT/"}" install_python "$dir"
  exec "$dir/bin/python" "$HERE/$2"
  ;;
node)
  need node nodejs
  need npm npm
  dir=$CACHE/clients-node-$(cksum <"$HERE/package-lock.json" | cut -d' ' -f1)
  once "$dir" "installing the clients for Node.js into ${dir#"$CHECKOUT/"}" install_node "$dir"
  # ES modules are looked for beside the file that imports them, CommonJS ones here.
  NODE_PATH=$dir/node_modules exec node "$HERE/$2"
  ;;
*) die "usage: clients.sh python|node SCRIPT" ;;
esac
