#!/usr/bin/env bash
# `make install`: what build/ holds, the unit, an example configuration that never replaces one, user and folders.
# usage: install.sh DESTDIR PREFIX; with a DESTDIR only files are laid down, for a package to take.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
destdir=$1
prefix=$2

say() { echo "install: $*"; }

# Only this step needs root: what was built belongs to who built it.
if [ -z "$destdir" ] && [ "$(id -u)" != 0 ]; then
    say "needs root for $prefix/bin, /etc and the user ghost-agent: asking sudo"
    exec sudo "packaging/install.sh" "$destdir" "$prefix"
fi

install_files() {
    install -Dm 755 -t "$destdir$prefix/bin" build/ghost-agent build/agentctl
    install -d "$destdir/etc/systemd/system"
    sed "s#/usr/local/bin/#$prefix/bin/#" packaging/systemd/ghost-agent.service >"$destdir/etc/systemd/system/ghost-agent.service"
    chmod 644 "$destdir/etc/systemd/system/ghost-agent.service"
    if [ -e "$destdir/etc/ghost/agent.yaml" ]; then
        say "/etc/ghost/agent.yaml is kept as it is"
    else
        install -Dm 644 packaging/config/agent.yaml "$destdir/etc/ghost/agent.yaml"
    fi
}

ensure_user() {
    getent group ghost >/dev/null || groupadd --system ghost
    getent passwd ghost-agent >/dev/null ||
        useradd --system --gid ghost --home-dir /var/lib/ghost --no-create-home --shell /usr/sbin/nologin ghost-agent
    getent group libvirt >/dev/null || { say "there is no group libvirt: install libvirt (./dev setup), then again" >&2; exit 1; }
    usermod --append --groups libvirt ghost-agent
}

ensure_folders() {
    # QEMU's user passes through to the images.
    install -d -o ghost-agent -g ghost -m 711 /var/lib/ghost
    install -d -o ghost-agent -g ghost -m 755 /var/lib/ghost/images
    install -d -o ghost-agent -g ghost -m 750 /var/log/ghost
    install -d -o ghost-agent -g ghost -m 750 /etc/ghost/certs
}

install_files
if [ -z "$destdir" ]; then
    ensure_user
    ensure_folders
    if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
    say "certificates for commands over the network: agentctl certs init /etc/ghost/certs"
    say "done; start it with: systemctl enable --now ghost-agent"
fi
