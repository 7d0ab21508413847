#!/usr/bin/env bash
# clients.sh python|node SCRIPT runs a script of this directory with the real clients of other
# languages, which it installs once, at fixed versions, by pip or npm. Status 3: Python or Node is missing.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$HERE/../servers/lib.sh"

# once DIR INSTALL...: INSTALL fills DIR, unless it is there.
once() {
  local dir=$1
  mkdir -p "$CACHE"
  (
    flock 9
    [ -f "$dir/complete" ] && exit
    rm -rf "$dir"
    say "installing the clients into ${dir#"$CHECKOUT/"} (once)"
    "${@:2}" "$dir" >&2
    touch "$dir/complete"
  ) 9>"$dir.lock"
}

install_python() { python3 -m venv "$1" && "$1/bin/pip" install --quiet --disable-pip-version-check -r "$HERE/requirements.txt"; }
# npm finds the lock file out of date where a part of the path is a symbolic link.
install_node() { mkdir "$1" && cp "$HERE/package.json" "$HERE/package-lock.json" "$1" && npm ci --prefix "$(cd "$1" && pwd -P)" --ignore-scripts --no-audit --no-fund --silent; }

case ${1:-} in
python)
  need python3 python3
  python3 -c 'import ensurepip' 2>/dev/null || missing "Python's venv" python3-venv
  dir=$CACHE/clients-python-$(cksum <"$HERE/requirements.txt" | cut -d' ' -f1)
  once "$dir" install_python
  exec "$dir/bin/python" "$HERE/$2"
  ;;
node)
  need node nodejs
  need npm npm
  dir=$CACHE/clients-node-$(cksum <"$HERE/package-lock.json" | cut -d' ' -f1)
  once "$dir" install_node
  # ES modules are looked for beside the file that imports them, CommonJS ones here.
  NODE_PATH=$dir/node_modules exec node "$HERE/$2"
  ;;
*) die "usage: clients.sh python|node SCRIPT" ;;
esac
