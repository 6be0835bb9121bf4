#!/usr/bin/env bash
# A host between two networks, as network namespaces. Invariant: they end with the standard input, however
# whoever held the other end of it died.
# `nets.sh outer` prints the ids of a process on the host, of one in the VPN and of one in the owner's LAN.
set -eu

outer() {
    trap '' TERM INT HUP
    local own=()
    # Who is not root is root in a user namespace of his own.
    [ "$(id -u)" = 0 ] || own=(--user --map-root-user)
    unshare "${own[@]}" --net --pid --fork --kill-child bash "$0" inner || true
}

# Somebody else's host.
neighbour() {
    local id
    ip link set lo up
    # /proc is the one of the namespace that all this was started in, and so is the id.
    read -r id _ </proc/self/stat
    echo "$id"
    exec sleep infinity
}

# INTERFACE ADDRESS NEIGHBOUR ITS-ADDRESS
wire() {
    local there=/proc/$3/ns/net
    ip link add "$1" type veth peer name eth0 netns "$there"
    ip address add "$2" dev "$1"
    ip link set "$1" up
    nsenter --net="$there" ip address add "$4" dev eth0
    nsenter --net="$there" ip link set eth0 up
}

inner() {
    local id vpn lan
    read -r id _ </proc/self/stat
    exec 5< <(exec unshare --net bash "$0" neighbour)
    read -r vpn <&5
    exec 6< <(exec unshare --net bash "$0" neighbour)
    read -r lan <&6
    ip link set lo up
    wire vpn0 100.64.0.7/10 "$vpn" 100.64.0.1/10
    wire lan0 192.0.2.7/24 "$lan" 192.0.2.1/24
    echo "$id $vpn $lan"
    while read -r _; do :; done
}

"$1"
