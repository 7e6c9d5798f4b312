#!/usr/bin/env bash
# A container engine on a bare Debian machine.
#
#   docker/engine.sh start    install what is missing and start one; one that answers is left alone
#   docker/engine.sh stop     stop the one that `start` started, and no other
#   docker/engine.sh status   does one answer, and did we start it?
#
# HARNESS_ENGINE_DIR   where its log and its pid are kept (default: $XDG_STATE_HOME/ws-harness)
# HARNESS_ENGINE_ARGS  more arguments for dockerd, for instance --data-root
# DOCKER_HOST          where it is asked, as ever
set -uo pipefail

state=${HARNESS_ENGINE_DIR:-${XDG_STATE_HOME:-$HOME/.local/state}/ws-harness}
pid_file=$state/dockerd.pid
log=$state/dockerd.log

say() { printf 'engine: %s\n' "$*"; }

answers() { docker info >/dev/null 2>&1; }

ours() {  # the pid of the engine that we started, where it still runs
  local pid
  pid=$(cat "$pid_file" 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ] &&
    echo "$pid"
}

patiently() {  # patiently WHAT COMMAND...: three tries, twice as long between them, with jitter
  local what=$1 try pause
  shift
  for try in 1 2 3; do
    "$@" && return 0
    [ "$try" -eq 3 ] && break
    pause=$((2 ** try + RANDOM % 3))
    say "$what: try $try of 3 failed, again in $pause s"
    sleep "$pause"
  done
  say "$what: failed three times"
  return 1
}

install() {
  [ "$(id -u)" -eq 0 ] || { say "root is needed to install one"; return 1; }
  command -v apt-get >/dev/null || { say "no apt-get here: install Docker by hand"; return 1; }
  patiently "package lists" apt-get update -q &&
    DEBIAN_FRONTEND=noninteractive patiently "packages" \
      apt-get install -qy --no-install-recommends docker.io iptables debootstrap
}

launch() {
  mkdir -p "$state"
  # In a session of its own: what ends this shell does not end it.
  # shellcheck disable=SC2086  # several arguments are meant
  setsid dockerd --pidfile "$state/own.pid" ${HARNESS_ENGINE_ARGS:-} >"$log" 2>&1 &
  echo $! >"$pid_file"
  local left=150
  until answers; do
    left=$((left - 1))
    if [ "$left" -eq 0 ] || ! ours >/dev/null; then
      say "dockerd did not come up; the end of $log:"
      tail -n 15 "$log"
      halt
      return 1
    fi
    sleep 0.2
  done
}

halt() {
  local pid left=150
  if pid=$(ours); then
    kill "$pid"
    while [ -d "/proc/$pid" ] && [ "$left" -gt 0 ]; do
      left=$((left - 1))
      sleep 0.2
    done
    [ -d "/proc/$pid" ] && kill -9 "$pid"
  fi
  rm -f "$pid_file"
}

case ${1:-} in
  start)
    if answers; then
      say "one answers already; it is left as it is"
      exit 0
    fi
    command -v dockerd >/dev/null && command -v iptables >/dev/null || install || exit 1
    patiently "starting dockerd" launch || exit 1
    say "started, $(docker version --format '{{.Server.Version}}'), log in $log"
    ;;
  stop)
    if ours >/dev/null; then
      halt
      say "stopped"
    else
      say "none of ours runs"
    fi
    ;;
  status)
    answers || { say "none answers"; exit 1; }
    if ours >/dev/null; then say "ours answers"; else say "one answers, not started here"; fi
    ;;
  *)
    sed -n '2,11s/^# \{0,1\}//p' "$0"
    exit 64
    ;;
esac
