#!/usr/bin/env bash
# A host whose first process is systemd. Invariant: it ends with the standard input, and leaves neither process, mount,
# control group nor file behind, however whoever held the other end of it died.
# `host.sh outer DIR AGENT AGENTCTL PACKAGING` is to be run as root with DIR empty; it prints the id of the first process
# inside. Nothing of the host is changed: /usr is the host's, read-only, all else is in memory.
set -eu
step=$1 dir=$2 agent=$3 agentctl=$4 packaging=$5
root=$dir/root

needs() {
    local what
    for what in unshare nsenter setpriv pivot_root systemctl journalctl useradd; do
        command -v "$what" >/dev/null || { echo "there is no $what here" >&2; return 1; }
    done
    for what in systemd systemd-journald; do
        [ -x "/usr/lib/systemd/$what" ] || { echo "there is no /usr/lib/systemd/$what here" >&2; return 1; }
    done
    grep -qw cgroup2 /proc/filesystems || { echo "this kernel has no control groups of version 2" >&2; return 1; }
}

outer() {
    trap '' TERM INT HUP
    needs && unshare --mount --propagation private bash "$0" grouped "$dir" "$agent" "$agentctl" "$packaging" || left=something
    rm -rf --one-file-system "$dir"
    [ -z "${left-}" ]
}

# Control groups of its own, of the second version whatever the host uses: without controllers where those are the first's.
grouped() {
    local here group
    mkdir "$dir/groups" "$root"
    mount -t cgroup2 none "$dir/groups"
    here=$dir/groups$(sed -n 's/^0:://p' /proc/self/cgroup)
    group=$here/ghost-e2e-$$
    mkdir "$group"
    echo $$ >"$group/cgroup.procs"
    # Nothing of what follows may keep it from what comes after.
    spaces || true
    echo $$ >"$here/cgroup.procs"
    find "$group" -depth -type d -exec rmdir {} +
}

# Dies with us; until then the standard input decides.
spaces() {
    local inside reader
    exec 3<&0
    # Without what would reach the host from inside: its modules, its clock, its log.
    setpriv --pdeathsig KILL --bounding-set=-sys_module,-sys_rawio,-sys_time,-syslog,-mac_admin,-mac_override \
        unshare --mount --propagation private --net --pid --ipc --uts --cgroup --fork --kill-child \
        bash "$0" inner "$dir" "$agent" "$agentctl" "$packaging" </dev/null 3<&- &
    inside=$!
    # With the first process all others end, before it is waited for.
    { while read -r _; do :; done; kill -KILL "$(cat "$dir/init" || echo "$inside")"; } <&3 2>/dev/null >&2 &
    reader=$!
    wait "$inside" 2>/dev/null || true
    kill -KILL "$reader" 2>/dev/null || true
    wait "$reader" 2>/dev/null || true
}

devices() {
    local device
    mount -t tmpfs -o mode=755 none "$root/dev"
    for device in null zero full random urandom tty kvm; do
        [ -e "/dev/$device" ] || continue
        touch "$root/dev/$device"
        mount --bind "/dev/$device" "$root/dev/$device"
    done
    mkdir "$root"/dev/{pts,shm}
    mount -t devpts -o newinstance,ptmxmode=666,mode=620 none "$root/dev/pts"
    ln -s pts/ptmx "$root/dev/ptmx"
    mount -t tmpfs none "$root/dev/shm"
}

accounts() {
    printf '%s\n' root:x:0:0:root:/root:/bin/bash nobody:x:65534:65534:nobody:/:/usr/sbin/nologin >"$root/etc/passwd"
    printf '%s\n' root:x:0: nogroup:x:65534: libvirt:x:990: kvm:x:991: systemd-journal:x:992: >"$root/etc/group"
}

# The units of the host that make a host, and none else: what the host's packages bring is not started.
units() {
    local unit
    mkdir -p "$root/etc/systemd/system" "$root/etc/units/sysinit.target.wants" "$root/etc/units/sockets.target.wants"
    for unit in basic sysinit sockets timers paths slices local-fs local-fs-pre multi-user network network-pre network-online \
        shutdown umount final; do
        cp -L "/usr/lib/systemd/system/$unit.target" "$root/etc/units/"
    done
    cp -L /usr/lib/systemd/system/systemd-journald{.service,.socket,-dev-log.socket} "$root/etc/units/"
    ln -s ../systemd-journald.service "$root/etc/units/sysinit.target.wants/"
    ln -s ../systemd-journald{,-dev-log}.socket "$root/etc/units/sockets.target.wants/"
    ln -s multi-user.target "$root/etc/units/default.target"
}

inner() {
    local id link
    # /proc is still the host's here, so this is our id as the host sees it.
    read -r id _ </proc/self/stat
    echo "$id" >"$dir/init"
    mount -t tmpfs -o mode=755 none "$root"
    mkdir -p "$root"/{usr,etc,var/log,var/lib,run,proc,sys,dev,tmp,root,home,srv,source,old}
    chmod 1777 "$root/tmp"
    for link in bin sbin lib lib32 lib64 libx32; do
        [ ! -L "/$link" ] || cp -a "/$link" "$root/$link"
    done
    mount --bind -o ro /usr "$root/usr"
    mount -o remount,bind,ro "$root/usr"
    mount -t tmpfs -o mode=755 none "$root/usr/local"
    cp -L /etc/os-release "$root/etc/"
    cp -L /etc/ld.so.cache "$root/etc/"
    cp -L /etc/login.defs "$root/etc/" 2>/dev/null || true
    tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
    echo systemd-host >"$root/etc/hostname"
    accounts
    units
    devices
    mkdir "$root/source/build"
    cp -r "$packaging" "$root/source/packaging"
    cp "$agent" "$root/source/build/ghost-agent"
    cp "$agentctl" "$root/source/build/agentctl"
    mount -t proc proc "$root/proc"
    mount --bind "$root/proc/sys" "$root/proc/sys"
    mount -o remount,bind,ro "$root/proc/sys"
    # It shows the network that it was mounted in.
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t cgroup2 none "$root/sys/fs/cgroup"
    mount -t tmpfs -o mode=755 none "$root/run"
    cd "$root"
    pivot_root . old
    umount --lazy old
    rmdir old
    echo "$id"
    exec >/dev/null
    exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin container=ghost-e2e SYSTEMD_UNIT_PATH=/etc/systemd/system:/run/systemd/system:/etc/units \
        /usr/lib/systemd/systemd --log-target=journal-or-kmsg --show-status=no
}

"$step"
