#!/usr/bin/env bash
# A lab's namespaces. Invariant: they end with the standard input, and leave neither process, mount
# nor file behind, however whoever held the other end of it died.
# `lab.sh outer DIR` is to be run as root with DIR empty; it prints the id of the first process inside.
set -eu
dir=$2

outer() {
    trap '' TERM INT HUP
    # What is mounted here later by the host is seen inside too.
    mount --bind "$dir" "$dir"
    mount --make-shared "$dir"
    unshare --mount --propagation unchanged --net --pid --fork --kill-child bash "$0" inner "$dir" || true
    umount --lazy --recursive "$dir"
    rm -rf --one-file-system "$dir"
}

libvirt_of_its_own() {
    mkdir -p "$dir"/{etc,lib/qemu,cache,log,run/lock,pool}
    chmod 711 "$dir"/{lib,cache,pool}
    cp -a /etc/libvirt/{qemu.conf,virtlogd.conf,nwfilter} "$dir/etc/"
    # libvirt would ask QEMU anew what it can do, for seconds.
    cp -a /var/cache/libvirt/. "$dir/cache/" 2>/dev/null || true
    chown --reference=/var/lib/libvirt/qemu "$dir/lib/qemu"
    # The host's profiles know nothing of our folders.
    sed -i '/^security_driver/d' "$dir/etc/qemu.conf"
    echo 'security_driver = "none"' >>"$dir/etc/qemu.conf"
    printf '%s\n' 'auth_unix_rw = "none"' 'unix_sock_group = "libvirt"' 'unix_sock_rw_perms = "0770"' >"$dir/etc/libvirtd.conf"
}

inner() {
    local id
    # /proc is still the host's here, so this is our id as the host sees it.
    read -r id _ </proc/self/stat
    mount --make-rslave /
    mount -t proc proc /proc
    # sysfs shows the network that it was mounted in. Without control groups libvirt does without them.
    umount --lazy --recursive /sys
    mount -t sysfs sysfs /sys
    libvirt_of_its_own
    mount --bind "$dir/etc" /etc/libvirt
    mount --bind "$dir/lib" /var/lib/libvirt
    mount --bind "$dir/cache" /var/cache/libvirt
    mount --bind "$dir/log" /var/log/libvirt
    mount --bind "$dir/run" /run
    ip link set lo up
    echo "$id"
    # As the first process it also waits for the orphans, without whose end libvirt waits for ever.
    while read -r _; do :; done
}

"$1"
