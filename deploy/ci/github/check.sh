#!/usr/bin/env bash
# The check of the action beside it. Everything it is told comes in the environment, so that no text of a
# pull request becomes a part of a command.
set -euo pipefail

against=${AGAINST:-}
if [ -z "$against" ] && [ -n "${GITHUB_BASE_REF:-}" ]; then
  # The checkout has one commit at most of the branch that the pull request goes to.
  deepen=()
  if [ "$(git rev-parse --is-shallow-repository)" = true ]; then deepen=(--unshallow); fi
  git fetch --quiet --no-tags "${deepen[@]}" origin "+refs/heads/$GITHUB_BASE_REF:refs/remotes/origin/$GITHUB_BASE_REF"
  against=git:origin/$GITHUB_BASE_REF
elif [ -z "$against" ] && [ -n "${BEFORE:-}" ] && [ -n "${BEFORE//0/}" ]; then
  if [ "$(git rev-parse --is-shallow-repository)" = true ]; then git fetch --quiet --no-tags --unshallow origin; fi
  against=git:$BEFORE
elif [ -z "$against" ]; then
  echo "::error title=schema check::nothing to compare with: this is no pull request, and there is no commit before it. Give the input against." >&2
  exit 2
fi

arguments=(schema check "${DIRECTORY:-schemas}" --against "$against" --format github)
if [ -n "${LEVEL:-}" ]; then arguments+=(--level "$LEVEL"); fi
while IFS= read -r pattern; do
  if [ -n "$pattern" ]; then arguments+=(--go "$pattern"); fi
done <<<"${GO_PATTERNS:-}"
exec postrider "${arguments[@]}"
