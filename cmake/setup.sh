#!/usr/bin/env bash
# Brings what the build and the tests need: Debian packages, and LibTorch 2.11.0 from its wheel into .deps/python.
# Does nothing, in well under a second and without the network, when all is there. Run it through `make setup`.
#
# LibTorch that is there already is used: LIBTORCH_DIR, CMAKE_PREFIX_PATH, an active Python environment (cmake/FindLibTorch.cmake).
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

mkdir -p .deps
exec 9>.deps/lock
flock -w 1800 9 || die "another set-up has held .deps/lock for 30 minutes; is it still running?"

missing_packages() {
  command -v dpkg-query >/dev/null || die "this set-up installs Debian or Ubuntu packages; install these by hand: $(tr '\n' ' ' <cmake/debian-packages.txt)"
  # dpkg-query fails when it has never heard of one of them; what it prints is the answer all the same.
  { xargs dpkg-query -W -f '${Package} ${db:Status-Status}\n' <cmake/debian-packages.txt 2>/dev/null || true; } \
    | awk '$2 == "installed" {print $1}' | sort -u | comm -13 - <(sort -u cmake/debian-packages.txt)
}

install_packages() {
  local missing prefix=()
  missing=$(missing_packages | tr '\n' ' ')
  [ -n "${missing// /}" ] || return 0
  if [ "$(id -u)" != 0 ]; then
    sudo -n true 2>/dev/null || die "these packages are missing; run: sudo apt-get update && sudo apt-get install -y --no-install-recommends $missing"
    prefix=(sudo)
  fi
  say "installing packages: $missing"
  "${prefix[@]}" apt-get update -qq
  # shellcheck disable=SC2086  # the list is words
  DEBIAN_FRONTEND=noninteractive "${prefix[@]}" apt-get install -y --no-install-recommends -qq $missing >.deps/apt.log 2>&1 9>&- \
    || die "apt-get failed; the end of .deps/apt.log: $(tail -5 .deps/apt.log)"
}

check_libtorch_dir() {
  [ -z "${LIBTORCH_DIR:-}" ] || [ -e "$LIBTORCH_DIR/lib/libtorch_cpu.so" ] \
    || die "LIBTORCH_DIR=$LIBTORCH_DIR has no lib/libtorch_cpu.so: give the folder with include/ and lib/, or unset it"
}

install_plot_tools() {  # beside somebody's own LibTorch: what draws the demo's picture and reads checkpoints in a test
  cmake/find-python >/dev/null 2>&1 && return 0
  say "installing matplotlib and safetensors into .deps/python"
  [ -x .deps/python/bin/python ] || /usr/bin/python3 -m venv .deps/python
  with_progress .deps/python/bin/python -m pip install --disable-pip-version-check $(grep -v '^torch==' cmake/requirements.txt)
}

has_torch() {  # is there a LibTorch other than ours?
  local dir
  for dir in "${LIBTORCH_DIR:-}" "${VIRTUAL_ENV:-/nonexistent}"/lib/python3*/site-packages/torch "${CONDA_PREFIX:-/nonexistent}"/lib/python3*/site-packages/torch; do
    [ -n "$dir" ] && [ -e "$dir/lib/libtorch_cpu.so" ] && { say "using LibTorch in $dir"; return 0; }
  done
  local IFS=':;'
  for dir in ${CMAKE_PREFIX_PATH:-}; do
    for dir in "$dir" "$dir/torch" "$dir/../.."; do
      [ -e "$dir/lib/libtorch_cpu.so" ] && { say "using LibTorch in $dir"; return 0; }
    done
  done
  return 1
}

with_progress() {  # a line every 15 s while the command runs, for logs without a terminal
  local start=$SECONDS pid
  "$@" >.deps/pip.log 2>&1 9>&- & pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    sleep 1
    (( (SECONDS - start) % 15 == 14 )) && say "... $((SECONDS - start)) s, $(du -sh .deps/python 2>/dev/null | cut -f1) installed"
  done
  wait "$pid" || die "pip failed; the end of .deps/pip.log: $(tail -5 .deps/pip.log)"
}

install_libtorch() {
  local stamp=.deps/python.stamp key
  key=$(sha256sum cmake/requirements.txt | cut -d' ' -f1)
  [ "$(cat $stamp 2>/dev/null)" = "$key" ] && [ -x .deps/python/bin/python ] && return 0
  local free
  free=$(df --output=avail -k .deps | tail -1)
  [ "$free" -gt $((10 * 1024 * 1024)) ] || die "LibTorch's wheel needs 10 GiB of free disk while it is installed; $(df -h --output=avail . | tail -1) are free"
  say "installing LibTorch 2.11.0 (4.7 GB, a few minutes) into .deps/python"
  rm -f $stamp
  /usr/bin/python3 -m venv .deps/python
  with_progress .deps/python/bin/python -m pip install --disable-pip-version-check -r cmake/requirements.txt
  echo "$key" >$stamp
}

install_packages
check_libtorch_dir
if has_torch; then install_plot_tools; else install_libtorch; fi
