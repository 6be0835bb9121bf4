//! Files that are refused, each with the one line that says why.

/// Every line is refused with one problem: file, problem (`FILE` for its path).
pub(crate) const REFUSED: &[(&str, &str)] = &[
    // The form of the file.
    ("agent: 5", "FILE:1: agent: is no section; put its keys on lines of their own below `agent:`"),
    ("- agent", "FILE:1: is not made of sections such as `agent:` with keys below"),
    ("agent: {}\n---\nagent: {}", "FILE:3: a second document begins; one file holds one"),
    ("vm: {}\nvm: {}", "FILE:2: section vm appears again; it began on line 1"),
    (
        "vm:\n  keep_failed: true\n  keep_failed: false",
        "FILE:3: vm.keep_failed: appears again; it was set on line 2",
    ),
    (
        "vm:\n  keep_failed: &a true",
        "FILE:2: anchors, aliases and tags are not accepted; write the value itself",
    ),
    (
        "vm:\n  keep_failed: !!bool true",
        "FILE:2: anchors, aliases and tags are not accepted; write the value itself",
    ),
    (
        "vm:\n  stop_timeout: {s: 30}",
        "FILE:2: vm.stop_timeout: holds keys of its own, where a value is expected (allowed: 1s to 1h; default 30s)",
    ),
    (
        "vm:\n  stop_timeout: [30s]",
        "FILE:2: vm.stop_timeout: is a list, where one value is expected (allowed: 1s to 1h; default 30s)",
    ),
    (
        "vm:\n  stop_timeout:",
        "FILE:2: vm.stop_timeout: has no value; remove the line to take the default (allowed: 1s to 1h; default 30s)",
    ),
    // Unknown names.
    ("agnet: {}", "FILE:1: unknown section agnet; did you mean agent?"),
    (
        "listen_addr: 127.0.0.1:1",
        "FILE:1: unknown section listen_addr; did you mean grpc.listen_addr or metrics.listen_addr?",
    ),
    (
        "x: {}",
        "FILE:1: unknown section x; there are agent, hypervisor, images, libvirt, resources, vm_limits, rates, grpc, vm, logging, metrics, tracing, vpn",
    ),
    ("logging:\n  levle: info", "FILE:2: logging.levle: unknown key; did you mean logging.level?"),
    (
        "agent:\n  acceleration: kvm",
        "FILE:2: agent.acceleration: unknown key; did you mean hypervisor.acceleration?",
    ),
    (
        "images:\n  zzz: 1",
        "FILE:2: images.zzz: unknown key; images has catalog, builtin_catalog, mirrors, update_interval, verify_interval, keep_versions, cache_limit_gb, max_image_gb",
    ),
    (
        "agent:\n  api_key: hunter2",
        "FILE:2: agent.api_key: the secret does not belong into a file; set it in the environment as GHOST_API_KEY",
    ),
    // Numbers and booleans, in one spelling.
    (
        "resources:\n  reserved_cpu: 010",
        "FILE:2: resources.reserved_cpu: \"010\" begins with 0, which some read as octal; write it without leading zeros (allowed: auto for a quarter of the host, or 0 to 4096 CPUs; default auto)",
    ),
    (
        "resources:\n  reserved_cpu: two",
        "FILE:2: resources.reserved_cpu: \"two\" is not a number in decimal digits (allowed: auto for a quarter of the host, or 0 to 4096 CPUs; default auto)",
    ),
    (
        "resources:\n  reserved_ram_gb: -1",
        "FILE:2: resources.reserved_ram_gb: \"-1\" is not a number in decimal digits (allowed: auto for a quarter of the host, or 0 to 65536 GiB; default auto)",
    ),
    (
        "resources:\n  reserved_disk_gb: \"50\"",
        "FILE:2: resources.reserved_disk_gb: \"50\" is a text, not a number; remove the quotes (allowed: auto for a quarter of the host, or 0 to 1048576 GiB; default auto)",
    ),
    (
        "resources:\n  cpu_overcommit: 65",
        "FILE:2: resources.cpu_overcommit: 65 is out of range (allowed: 0.1 to 64.0; default 1.0)",
    ),
    (
        "resources:\n  disk_overcommit: .inf",
        "FILE:2: resources.disk_overcommit: \".inf\" is not a number in decimal digits (allowed: 0.1 to 64.0; default 1.0)",
    ),
    (
        "resources:\n  cpu_overcommit: -1.0",
        "FILE:2: resources.cpu_overcommit: \"-1.0\" is not a number in decimal digits (allowed: 0.1 to 64.0; default 1.0)",
    ),
    (
        "rates:\n  client_changes_per_s: 0",
        "FILE:2: rates.client_changes_per_s: 0 is out of range (allowed: 1 to 100000; default 20)",
    ),
    (
        "vm_limits:\n  disk_iops: 0",
        "FILE:2: vm_limits.disk_iops: 0 is out of range (allowed: 1 to 10000000 per second, or \"\" for none; default \"\")",
    ),
    (
        "logging:\n  max_size: 0",
        "FILE:2: logging.max_size: 0 is out of range (allowed: 1 to 10240 MiB; default 100)",
    ),
    (
        "logging:\n  max_age: 0x7",
        "FILE:2: logging.max_age: \"0x7\" is not a number in decimal digits (allowed: 1 to 3650 days; default 7)",
    ),
    (
        "vm:\n  keep_failed: yes",
        "FILE:2: vm.keep_failed: \"yes\" is not a boolean; write true or false (allowed: true, false; default false)",
    ),
    (
        "vm:\n  keep_failed: \"true\"",
        "FILE:2: vm.keep_failed: \"true\" is a text, not a boolean; remove the quotes (allowed: true, false; default false)",
    ),
    // Durations.
    (
        "vm:\n  address_timeout: 120",
        "FILE:2: vm.address_timeout: 120 has no unit; give one, such as 120s (allowed: 1s to 1h; default 120s)",
    ),
    (
        "vm:\n  address_timeout: 2 minutes",
        "FILE:2: vm.address_timeout: \"2 minutes\" is not a duration such as 30s, 2m, 500ms or 1h30m (allowed: 1s to 1h; default 120s)",
    ),
    (
        "agent:\n  heartbeat_interval: 999ms",
        "FILE:2: agent.heartbeat_interval: 999ms is out of range (allowed: 1s to 1h; default 30s)",
    ),
    (
        "agent:\n  shutdown_timeout: 11m",
        "FILE:2: agent.shutdown_timeout: 11m is out of range (allowed: 1s to 10m; default 30s)",
    ),
    (
        "images:\n  update_interval: 59m",
        "FILE:2: images.update_interval: 59m is out of range (allowed: 1h to 2160h, or off for never; default 168h)",
    ),
    (
        "images:\n  update_interval: 7d",
        "FILE:2: images.update_interval: \"7d\" is not a duration such as 30s, 2m, 500ms or 1h30m (allowed: 1h to 2160h, or off for never; default 168h)",
    ),
    (
        "images:\n  verify_interval: never",
        "FILE:2: images.verify_interval: \"never\" is not a duration such as 30s, 2m, 500ms or 1h30m (allowed: 1h to 8760h, or off for never; default 720h)",
    ),
    // Images.
    (
        "images:\n  keep_versions: 0",
        "FILE:2: images.keep_versions: 0 is out of range (allowed: 1 to 10; default 1)",
    ),
    (
        "images:\n  cache_limit_gb: 0",
        "FILE:2: images.cache_limit_gb: 0 is out of range (allowed: 1 to 65536 GiB, or \"\" for none; default \"\")",
    ),
    (
        "images:\n  max_image_gb: 1001",
        "FILE:2: images.max_image_gb: 1001 is out of range (allowed: 1 to 1000 GiB; default 20)",
    ),
    (
        "images:\n  builtin_catalog: on",
        "FILE:2: images.builtin_catalog: \"on\" is not a boolean; write true or false (allowed: true, false; default true)",
    ),
    (
        "images:\n  mirrors: https://a/=https://b/",
        "FILE:2: images.mirrors: is one value, where a list is expected; write it in [ ] (allowed: a list of at most 64 FROM=TO, each an http:// or https:// URL that ends with /, TO also file://; default [])",
    ),
    (
        "images:\n  mirrors: [https://a/]",
        "FILE:2: images.mirrors: has an entry without =; write FROM=TO (allowed: a list of at most 64 FROM=TO, each an http:// or https:// URL that ends with /, TO also file://; default [])",
    ),
    (
        "images:\n  mirrors: [https://a/x=https://b/]",
        "FILE:2: images.mirrors: \"https://a/x\" does not end with /, so it could fit half a name (allowed: a list of at most 64 FROM=TO, each an http:// or https:// URL that ends with /, TO also file://; default [])",
    ),
    (
        "images:\n  mirrors: [https://a/=https://u:hunter2@b/]",
        "FILE:2: images.mirrors: TO contains a user or a password, which do not belong into a file (allowed: a list of at most 64 FROM=TO, each an http:// or https:// URL that ends with /, TO also file://; default [])",
    ),
    // Words, names and paths.
    (
        "logging:\n  level: warning",
        "FILE:2: logging.level: \"warning\" is none of them; did you mean warn? (allowed: debug, info, warn, error; default info)",
    ),
    (
        "logging:\n  format: jsn",
        "FILE:2: logging.format: \"jsn\" is none of them; did you mean json? (allowed: json, text; default json)",
    ),
    (
        "agent:\n  name: a/b",
        "FILE:2: agent.name: \"a/b\" is not a host name label (allowed: 1 to 63 letters, digits and inner hyphens; default the host's name)",
    ),
    (
        "agent:\n  state_dir: var",
        "FILE:2: agent.state_dir: \"var\" is not an absolute path (allowed: an absolute path without ..; default /var/lib/ghost)",
    ),
    (
        "libvirt:\n  image_cache: /a/../b",
        "FILE:2: libvirt.image_cache: \"/a/../b\" ends with / or contains .. (allowed: an absolute path without ..; default /var/lib/ghost/images)",
    ),
    (
        "libvirt:\n  storage_pool: a/b",
        "FILE:2: libvirt.storage_pool: \"a/b\" cannot be a name in libvirt (allowed: 1 to 255 characters without /, spaces at the ends and control characters; default default)",
    ),
    (
        "libvirt:\n  uri: qemu+ssh://other/system",
        "FILE:2: libvirt.uri: \"qemu+ssh://other/system\" is not a local hypervisor (allowed: a local libvirt URI, such as qemu:///system; default qemu:///system)",
    ),
    (
        "metrics:\n  path: /healthz",
        "FILE:2: metrics.path: /healthz belongs to a health check (allowed: / and letters, digits, - _ . /, other than /healthz, /livez, /readyz; default /metrics)",
    ),
    // Addresses.
    (
        "metrics:\n  listen_addr: :9091",
        "FILE:2: metrics.listen_addr: \":9091\" has no address; write 0.0.0.0:9091 for all (allowed: IP:PORT or [IPv6]:PORT, port 0 for any free one; default 127.0.0.1:9091)",
    ),
    (
        "metrics:\n  listen_addr: localhost:1",
        "FILE:2: metrics.listen_addr: \"localhost:1\" is a name, not an IP address; write 127.0.0.1:1 (allowed: IP:PORT or [IPv6]:PORT, port 0 for any free one; default 127.0.0.1:9091)",
    ),
    (
        "agent:\n  api_url: http://100.64.0.1:8080",
        "FILE:2: agent.api_url: http:// would send everything in the clear, and prove nobody; write https:// (allowed: https://HOST[:PORT], or \"\" for none; default \"\")",
    ),
    (
        "agent:\n  api_url: https://u:hunter2@a",
        "FILE:2: agent.api_url: contains a user or a password; the agent's secret is GHOST_API_KEY (allowed: https://HOST[:PORT], or \"\" for none; default \"\")",
    ),
];
