# What the guest builders share: sourced, never run. Everything but the result goes to stderr.
set -euo pipefail

say() { echo "guest: $*" >&2; }
die() { echo "guest: $1" >&2; echo "guest: remedy: $2" >&2; exit 1; }

# Debian's cloud kernel, or the nearest the distribution has: few drivers, all of virtio.
kernel_package() {
    local arch name
    if command -v apt-cache >/dev/null; then
        arch=$(dpkg --print-architecture)
        for name in "linux-image-cloud-$arch" linux-image-kvm linux-image-virtual; do
            apt-cache depends "$name" 2>/dev/null |
                sed -n 's/^ *|\{0,1\}Depends: \(linux-image-[0-9][^ ]*\)$/\1/p' | head -n1 | grep . && return
        done
    else
        echo kernel-core
        return
    fi
    return 1
}

# One word that names the kernel's package and version: part of the image's cache key.
kernel_spec() {
    local name
    if ! command -v apt-cache >/dev/null; then
        dnf repoquery -q --latest-limit=1 --qf '%{name}-%{version}-%{release}.%{arch}' kernel-core kernel-modules-core | sort | paste -sd,
        return
    fi
    name=$(kernel_package) || {
        say "apt-get update, for the kernel's package"
        if [ "$(id -u)" = 0 ]; then apt-get update -q >&2; else sudo apt-get update -q >&2; fi
        name=$(kernel_package) || die "this distribution has no cloud kernel package" "add its main repository to apt's sources"
    }
    echo "$name=$(apt-cache policy "$name" | awk '/Candidate:/ { print $2 }')"
}

# Downloads the kernel and unpacks it below $2; nothing is installed on this host.
fetch_kernel() {
    local spec=$1 dir=$2 modules
    mkdir -p "$dir/pkg" "$dir/root"
    say "download $spec"
    if command -v apt-get >/dev/null; then
        fetch_debs "$spec" "$dir/pkg"
        # Ubuntu ships the modules apart from the image.
        modules=${spec/linux-image-/linux-modules-}
        if apt-cache show "${modules%%=*}" >/dev/null 2>&1; then fetch_debs "${modules%%=*}" "$dir/pkg"; fi
        for package in "$dir"/pkg/*.deb; do dpkg-deb -x "$package" "$dir/root"; done
    else
        (cd "$dir/pkg" && dnf download -q ${spec//,/ } >&2)
        for package in "$dir"/pkg/*.rpm; do (cd "$dir/root" && rpm2cpio "$package" | cpio -idm --quiet); done
    fi
}

fetch_debs() {
    local sandbox=()
    # As root apt would drop to a user that cannot write here, and warn.
    [ "$(id -u)" != 0 ] || sandbox=(-o APT::Sandbox::User=root)
    (cd "$2" && apt-get download -q "${sandbox[@]}" "$1" >&2) ||
        die "cannot download $1" "apt-get update, then again: the package lists are older than the mirror"
}

console_tty() { [ "$(uname -m)" = aarch64 ] && echo ttyAMA0 || echo ttyS0; }
