#!/bin/sh
# A private Docker engine for sandboxes and tests: docker_local.sh start|stop|status
#
# Everything it keeps lies in .docker-local/ of this repository (data, socket, pid, log, the base image's tarball). It has no
# network but none and host, touches neither iptables nor bridges, and leaves a system-wide engine alone. Needs root (or
# sudo) and apt-get for the first start; later starts take seconds. Prints the DOCKER_HOST to use.
set -eu

ROOT=$(cd "$(dirname "$0")/../.." && pwd -P)
DIR=$ROOT/.docker-local
IMAGE=${SWE_MASTER_BASE_IMAGE:-swe-master-base}
PACKAGES=python3,git,patch,procps
START_S=90
STOP_S=60

# A Unix socket's path holds at most 107 bytes, and containerd adds 40 to the folder it is given.
RUN=$DIR
if [ ${#DIR} -gt 60 ]; then
    RUN=/tmp/swe-master-$(printf %s "$DIR" | cksum | cut -d ' ' -f 1)
fi
SOCKET=$RUN/docker.sock
PIDFILE=$DIR/pid
export DOCKER_HOST="unix://$SOCKET"

say() { printf 'docker-local: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
answers() { timeout 10 docker version >/dev/null 2>&1; }
alive() { [ -s "$PIDFILE" ] && kill -0 "$(cat "$PIDFILE")" 2>/dev/null && grep -q dockerd "/proc/$(cat "$PIDFILE")/cmdline"; }

as_root() {
    [ "$(id -u)" -eq 0 ] && return 0
    command -v sudo >/dev/null || die "needs root: run it as root, or install sudo"
    exec sudo -E sh "$0" "$@"
}

# Installs what is missing without starting the services that come with it.
install_packages() {
    missing=
    command -v dockerd >/dev/null && command -v docker >/dev/null || missing="$missing docker.io"
    command -v debootstrap >/dev/null || missing="$missing debootstrap"
    command -v bwrap >/dev/null || missing="$missing bubblewrap"
    command -v busybox >/dev/null || missing="$missing busybox-static"  # the tests' smallest image
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null || die "install$missing with this system's package manager (there is no apt-get)"
    say "installing$missing"
    policy=/usr/sbin/policy-rc.d
    made_policy=
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' > $policy
        chmod 755 $policy
        made_policy=yes
    fi
    installed=
    for attempt in as-is updated; do
        [ $attempt = as-is ] || apt-get -qq update >>"$DIR/apt.log" 2>&1 || true
        # shellcheck disable=SC2086
        if DEBIAN_FRONTEND=noninteractive apt-get -y -qq --no-install-recommends install $missing >>"$DIR/apt.log" 2>&1; then
            installed=yes
            break
        fi
    done
    [ -z "$made_policy" ] || rm -f $policy
    [ -n "$installed" ] || die "apt-get cannot install$missing; see $DIR/apt.log"
}

start_daemon() {
    if answers; then return 0; fi
    if alive; then die "dockerd $(cat "$PIDFILE") runs but does not answer on $SOCKET; see $DIR/log, or stop it first"; fi
    mkdir -p "$RUN" "$DIR/data"
    rm -f "$PIDFILE" "$SOCKET"
    group=$(id -gn "${SUDO_USER:-root}")
    setsid nohup dockerd --data-root "$DIR/data" --exec-root "$RUN/exec" -H "$DOCKER_HOST" -G "$group" --pidfile "$PIDFILE" \
        --iptables=false --ip6tables=false --bridge=none >>"$DIR/log" 2>&1 </dev/null &
    waited=0
    until answers; do
        if [ $waited -ge $START_S ]; then die "dockerd does not answer within $START_S s; see $DIR/log"; fi
        if [ $waited -ge 3 ] && ! alive; then die "dockerd ended; the last lines of $DIR/log: $(tail -n 3 "$DIR/log")"; fi
        sleep 1
        waited=$((waited + 1))
    done
}

# The mirror and suite that this machine's own apt uses.
bootstrap() {
    rootfs=$DIR/rootfs
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | head -n 1)
    suite=$(. /etc/os-release && printf %s "$VERSION_CODENAME")
    say "making the base image from ${mirror:-the default mirror} ($suite): about a minute"
    rm -rf "$rootfs"
    proxy=$(apt-config dump Acquire::http::Proxy 2>/dev/null | sed -n 's/^Acquire::http::Proxy "\(.*\)";$/\1/p')
    [ -z "$proxy" ] || export http_proxy="$proxy"
    # shellcheck disable=SC2086
    debootstrap --variant=minbase --include=$PACKAGES "$suite" "$rootfs" $mirror >"$DIR/debootstrap.log" 2>&1 ||
        die "debootstrap failed: $(tail -n 2 "$DIR/debootstrap.log")"
    rm -rf "$rootfs"/var/lib/apt/lists/* "$rootfs"/var/cache/apt/* "$rootfs"/var/log/*
    rm -f "$rootfs/etc/resolv.conf" "$rootfs/etc/hostname" "$rootfs/etc/apt/sources.list"
    mkdir -p "$rootfs/testbed"
    tar -C "$rootfs" -c . > "$DIR/base.tar.part"
    mv "$DIR/base.tar.part" "$DIR/base.tar"
    rm -rf "$rootfs"
}

make_image() {
    if docker image inspect "$IMAGE" >/dev/null 2>&1; then return 0; fi
    [ -s "$DIR/base.tar" ] || bootstrap
    docker import --change 'ENV LANG=C.UTF-8' --change 'CMD ["sh"]' "$DIR/base.tar" "$IMAGE" >/dev/null ||
        die "docker import of $DIR/base.tar failed"
}

case "${1:-}" in
start)
    as_root "$@"
    mkdir -p "$DIR"
    install_packages
    start_daemon
    printf '%s\n' "$DOCKER_HOST" > "$DIR/docker_host"
    make_image
    say "ready: $(docker version --format '{{.Server.Version}}'), image $IMAGE"
    printf 'DOCKER_HOST=%s\n' "$DOCKER_HOST"
    ;;
stop)
    as_root "$@"
    if alive; then
        kill "$(cat "$PIDFILE")"
        waited=0
        while alive; do
            if [ $waited -ge $STOP_S ]; then die "dockerd $(cat "$PIDFILE") does not end within $STOP_S s; see $DIR/log"; fi
            sleep 1
            waited=$((waited + 1))
        done
        say "stopped"
    else
        say "not running"
    fi
    rm -f "$DIR/docker_host"
    if [ "$RUN" != "$DIR" ]; then rm -rf "$RUN"; fi
    ;;
status)
    if ! answers; then die "no engine answers on $SOCKET; start it with: make docker-local"; fi
    docker image inspect "$IMAGE" >/dev/null 2>&1 || die "the engine answers, but has no image $IMAGE; run: make docker-local"
    say "engine and image $IMAGE are ready"
    printf 'DOCKER_HOST=%s\n' "$DOCKER_HOST"
    ;;
*)
    die "usage: $0 start|stop|status"
    ;;
esac
