#!/usr/bin/env bash
# A container engine on a bare Debian machine.
#
#   docker/engine.sh start    install what is missing and start one; one that answers is left alone
#   docker/engine.sh stop     stop the one that `start` started, and no other
#   docker/engine.sh status   does one answer, and did we start it?
#
# HARNESS_ENGINE_DIR   where its log and its pid are kept (default: $XDG_STATE_HOME/ws-harness)
# HARNESS_ENGINE_ARGS  more arguments for dockerd, for instance --data-root DIR
# DOCKER_HOST          where it is asked, as ever
#
# A second engine beside another wants a network namespace of its own (unshare --net): with
# --bridge=none dockerd removes docker0, whosesoever it is.
#
# Exit codes: 0 done, 1 it could not be done (status: none answers), 64 usage.
set -uo pipefail

state=${HARNESS_ENGINE_DIR:-${XDG_STATE_HOME:-$HOME/.local/state}/ws-harness}
mark=$state/dockerd.started
log=$state/dockerd.log
attempts=3
again=0

say() { printf 'engine: %s\n' "$*"; }

answers() { timeout 10 docker info >/dev/null 2>&1; }

born() {  # born PID: when it began, in ticks since which boot; nobody else has both
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  # What follows the name, which may have blanks in it; an ended one that nobody waited for is gone.
  read -ra stat <<<"${stat##*) }"
  [ "${stat[0]}" != Z ] && echo "$1 ${stat[19]} $(cat /proc/sys/kernel/random/boot_id)"
}

ours() {  # the pid of the engine that we started, where it still runs
  local noted pid
  noted=$(cat "$mark" 2>/dev/null) || return 1
  pid=${noted%% *}
  [ -n "$pid" ] && [ "$(born "$pid")" = "$noted" ] && echo "$pid"
}

patiently() {  # patiently WHAT COMMAND...: a few attempts, twice as long between them, with jitter
  local what=$1 attempt pause
  shift
  for ((attempt = 1; attempt <= attempts; attempt++)); do
    "$@" && return 0
    [ "$attempt" -eq "$attempts" ] && break
    pause=$((2 ** attempt + RANDOM % 3))
    again=$((again + 1))
    say "$what: attempt $attempt of $attempts failed, again in $pause s"
    sleep "$pause"
  done
  say "$what: failed $attempts times"
  return 1
}

fetch() {  # fetch PACKAGE...: from Debian
  DEBIAN_FRONTEND=noninteractive patiently "installing $*" \
    apt-get install -qy --no-install-recommends "$@"
}

install() {
  [ "$(id -u)" -eq 0 ] || { say "root is needed to install one; next: sudo $0 start"; return 1; }
  command -v apt-get >/dev/null || { say "no apt-get here; next: install Docker by hand"; return 1; }
  patiently "package lists" apt-get update -q || return 1
  fetch docker.io iptables debootstrap || return 1
  # Newer Debian has the command in a package of its own.
  command -v docker >/dev/null || fetch docker-cli
}

launch() {
  local pid deadline=$((SECONDS + 60))
  # In a session of its own: what ends this shell does not end it. Nor does it keep our lock.
  # shellcheck disable=SC2086  # several arguments are meant
  setsid dockerd --pidfile "$state/dockerd.pid" ${HARNESS_ENGINE_ARGS:-} >"$log" 2>&1 </dev/null 9>&- &
  pid=$!
  born "$pid" >"$mark"
  until answers; do
    if ! kill -0 "$pid" 2>/dev/null || [ "$SECONDS" -ge "$deadline" ]; then
      say "dockerd did not come up; the end of $log:"
      tail -n 12 "$log" | sed 's/^/  /'
      halt
      return 1
    fi
    sleep 0.2
  done
}

halt() {
  local pid deadline=$((SECONDS + 30))
  if pid=$(ours); then
    kill "$pid"
    while ours >/dev/null && [ "$SECONDS" -lt "$deadline" ]; do sleep 0.2; done
    ours >/dev/null && { say "it does not end: killed"; kill -9 "$pid"; }
  fi
  rm -f "$mark"
}

alone() {  # two of us at a time would install, and start, twice
  mkdir -p "$state" && exec 9>"$state/lock" && flock -w 600 9 && return
  say "$state: cannot be locked for ten minutes"
  exit 1
}

case ${1:-} in
  start)
    alone
    if answers; then
      say "one answers already: left as it is"
      exit 0
    fi
    { command -v docker && command -v dockerd && command -v iptables; } >/dev/null ||
      install || exit 1
    patiently "starting dockerd" launch || exit 1
    say "started $(docker version --format '{{.Server.Version}}'), log in $log; $again retries"
    ;;
  stop)
    alone
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
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"
    exit 64
    ;;
esac
