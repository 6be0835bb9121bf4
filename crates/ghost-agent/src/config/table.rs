//! The one table of keys. Invariant: a key is named here and nowhere else; the structs, the file,
//! the environment, the documentation and the example file all follow from its line.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ghost_core::domain::{ApiReach, Bytes, Overcommit, ReservationRule, Reserve};
use url::Url;

use super::model::{
    Acceleration, ClientName, LibvirtUri, ListenAddr, LogFormat, LogLevel, LogOutput, ObjectName,
};
use super::reader::Reader;
use super::rules::{
    Rule, Shape, api_url, choice, clients, collector, duration, host_and_port, host_label,
    http_path, libvirt_uri, listen_address, mirrors, object_name, optional, or_off, path, ratio,
    reserve, socket_address, socket_path, switch, whole,
};

/// The value of a key that nobody set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fallback {
    /// This text, as in the environment.
    Text(&'static str),
    /// The host's name, as far as it is a label.
    HostName,
}

/// What is known about a key.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) section: &'static str,
    pub(super) name: &'static str,
    pub(super) fallback: Fallback,
    pub(super) allowed: Cow<'static, str>,
    pub(super) shape: Shape,
    pub(super) doc: String,
}

impl Key {
    fn new<T>(
        at: (&'static str, &'static str),
        fallback: Fallback,
        rule: &Rule<T>,
        doc: &str,
    ) -> Self {
        let (section, name) = at;
        let doc = doc.split_whitespace().collect::<Vec<_>>().join(" ");
        Self { section, name, fallback, allowed: rule.allowed.clone(), shape: rule.shape, doc }
    }

    /// `section.name`.
    pub(super) fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// The environment variable that sets it.
    pub(super) fn variable(&self) -> String {
        format!("GHOST_{}__{}", self.section.to_uppercase(), self.name.to_uppercase())
    }

    /// The default as the documentation shows it.
    pub(super) fn fallback_shown(&self) -> &'static str {
        match (self.fallback, self.shape) {
            (Fallback::Text(""), Shape::One) => "\"\"",
            (Fallback::Text(""), Shape::Many) => "[]",
            (Fallback::Text(text), _) => text,
            (Fallback::HostName, _) => "the host's name",
        }
    }
}

/// A section and what it is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Section {
    pub(super) name: &'static str,
    pub(super) doc: &'static str,
}

macro_rules! settings {
    ($(
        #[doc = $about:literal]
        $vis:vis $section:ident: $Section:ident {$(
            $(#[doc = $doc:literal])+
            $key:ident: $Value:ty = $fallback:expr, $rule:expr;
        )+}
    )+) => {
        $(
            #[doc = $about]
            #[derive(Debug, Clone, PartialEq)]
            $vis struct $Section {
                $( $(#[doc = $doc])+ $vis $key: $Value, )+
            }
        )+

        /// Every section as it was written, before the sections are held against each other;
        /// `None` where a value was refused.
        #[derive(Debug, Clone, PartialEq)]
        pub(super) struct Settings {
            $( pub(super) $section: Option<$Section>, )+
        }

        impl Settings {
            /// Reads every key; the reader notes each that is wrong.
            pub(super) fn read(reader: &mut Reader<'_>) -> Self {
                $(let $section = {
                    $(let $key = {
                        let rule = $rule;
                        let at = (stringify!($section), stringify!($key));
                        let key = Key::new(at, $fallback, &rule, concat!($($doc),+));
                        reader.read(&key, &rule)
                    };)+
                    (|| Some($Section { $($key: $key?,)+ }))()
                };)+
                Self { $($section,)+ }
            }
        }

        /// Every section, in the order of the documentation.
        pub(super) fn sections() -> Vec<Section> {
            vec![$( Section { name: stringify!($section), doc: $about }, )+]
        }

        /// Every key, in the order of the documentation.
        pub(super) fn keys() -> Vec<Key> {
            vec![$($(
                Key::new(
                    (stringify!($section), stringify!($key)),
                    $fallback,
                    &$rule,
                    concat!($($doc),+),
                ),
            )+)+]
        }
    };
}

use Fallback::{HostName, Text};

settings! {
    /// The agent itself.
    pub agent: Agent {
        /// Name of this agent, unique among the owner's.
        name: String = HostName, host_label();
        /// Address of the Ghost API inside the VPN. Without one the agent talks to nobody by
        /// itself.
        api_url: Option<Url> = Text(""), optional(api_url());
        /// Time from one heartbeat to the next, unless the Ghost API wants another.
        heartbeat_interval: Duration = Text("30s"), duration(seconds(1..=3600));
        /// Ignored: the agent reports the version of its own binary.
        version: () = Text(""), Rule::anything();
        /// Folder of the ledger and of the agent's other state.
        state_dir: PathBuf = Text("/var/lib/ghost"), path();
        /// How long calls under way may go on after the agent was told to stop. VMs run on.
        shutdown_timeout: Duration = Text("30s"), duration(seconds(1..=600));
        /// Where the Ghost API reaches this agent. Without one it is told `grpc.listen_addr`, unless that
        /// is an address of this host only.
        advertise_addr: Option<String> = Text(""), optional(host_and_port());
    }

    /// What runs the guests.
    pub hypervisor: Hypervisor {
        /// `kvm` refuses to run without usable KVM; `tcg` emulates, is slow and isolates no one;
        /// `auto` takes KVM where it is usable and else TCG, with a warning.
        acceleration: Acceleration = Text("kvm"), choice(&[
            ("kvm", Acceleration::Kvm), ("auto", Acceleration::Auto), ("tcg", Acceleration::Tcg),
        ]);
    }

    /// The templates.
    pub images: Images {
        /// File with a YAML list of templates (docs/operations.md). A row here takes the place of the
        /// built-in row of its name. Without a file the built-in catalogue alone is
        /// offered.
        catalog: Option<PathBuf> = Text(""), optional(path());
        /// Offer the built-in catalogue of distributions.
        builtin_catalog: bool = Text("true"), switch();
        /// What takes the place of which prefix in the catalogue's URLs, such as
        /// `https://cloud-images.ubuntu.com/=https://mirror.example/ubuntu-cloud/`. The longest that fits
        /// counts. In the environment they are separated by commas.
        mirrors: Vec<(Url, Url)> = Text(""), mirrors();
        /// Time from one search for new versions of the cached images to the next.
        update_interval: Option<Duration> = Text("168h"), or_off(duration(hours(1..=2160)));
        /// Time from one comparison of an image with its digest to the next.
        verify_interval: Option<Duration> = Text("720h"), or_off(duration(hours(1..=8760)));
        /// Versions of a template's image that are kept, the current one included. What a VM is based on
        /// is kept in any case.
        keep_versions: u32 = Text("1"), whole(1..=10, "");
        /// What all images together shall take at most, in GiB; no limit if empty. What a VM is based on
        /// stays in any case.
        cache_limit_gb: Option<u32> = Text(""), optional(whole(1..=65_536, "GiB"));
        /// Size of one image's file at most, in GiB.
        max_image_gb: u32 = Text("20"), whole(1..=1_000, "GiB");
    }

    /// libvirt on this host.
    pub libvirt: Libvirt {
        /// The connection.
        uri: LibvirtUri = Text("qemu:///system"), libvirt_uri();
        /// Storage pool of the VMs' disks. It must exist.
        storage_pool: ObjectName = Text("default"), object_name();
        /// NAT network of the VMs. It must exist.
        network: ObjectName = Text("default"), object_name();
        /// Folder of the downloaded base images. QEMU must be able to read it.
        image_cache: PathBuf = Text("/var/lib/ghost/images"), path();
    }

    /// What the owner keeps, and how often the rest may be promised.
    pub resources: Resources {
        /// Logical CPUs that no VM gets.
        reserved_cpu: Reserve = Text("auto"), reserve(0..=4096, "CPUs");
        /// Memory that no VM gets, in GiB.
        reserved_ram_gb: Reserve = Text("auto"), reserve(0..=65_536, "GiB");
        /// Space of the storage pool's file system that no VM gets, in GiB.
        reserved_disk_gb: Reserve = Text("auto"), reserve(0..=1_048_576, "GiB");
        /// Virtual CPUs per unreserved CPU.
        cpu_overcommit: f64 = Text("1.0"), ratio(0.1..=64.0);
        /// Virtual bytes of disk per unreserved byte of the pool.
        disk_overcommit: f64 = Text("1.0"), ratio(0.1..=64.0);
    }

    /// What each VM may take of the host's disk and network at most.
    pub vm_limits: VmLimits {
        /// Read from its disk, in MiB a second; no limit if empty.
        disk_read_mib_per_s: Option<u32> = Text(""), optional(whole(1..=100_000, "MiB/s"));
        /// Written to its disk, in MiB a second; no limit if empty.
        disk_write_mib_per_s: Option<u32> = Text(""), optional(whole(1..=100_000, "MiB/s"));
        /// Reads and writes of its disk in a second; no limit if empty.
        disk_iops: Option<u32> = Text(""), optional(whole(1..=10_000_000, "per second"));
        /// Received, in MiB a second; no limit if empty.
        net_in_mib_per_s: Option<u32> = Text(""), optional(whole(1..=100_000, "MiB/s"));
        /// Sent, in MiB a second; no limit if empty.
        net_out_mib_per_s: Option<u32> = Text(""), optional(whole(1..=100_000, "MiB/s"));
    }

    /// How often may be called. Reads and changes are counted apart.
    pub rates: Rates {
        /// Reads of one client in a second.
        client_reads_per_s: u32 = Text("10000"), whole(1..=1_000_000, "");
        /// Reads of all clients in a second.
        all_reads_per_s: u32 = Text("20000"), whole(1..=1_000_000, "");
        /// Creates, deletes, starts and stops of one client in a second; five seconds' worth may come
        /// at once.
        client_changes_per_s: u32 = Text("20"), whole(1..=100_000, "");
        /// Those of all clients.
        all_changes_per_s: u32 = Text("40"), whole(1..=100_000, "");
        /// Changes under way at once; others wait, first come, first served.
        changes_at_once: u32 = Text("32"), whole(1..=1_000, "");
    }

    /// Who may command, and where.
    pub(super) grpc: GrpcKeys {
        /// Address of the listener for the control plane and for remote operators. `tailscale:PORT` is
        /// this host's address in the VPN, whatever it is: the agent waits for it, follows it and listens
        /// nowhere else. `auto` is that with port 9090 while there is one, and else 127.0.0.1:9090.
        listen_addr: ListenAddr = Text("auto"), listen_address();
        /// TLS 1.3 with client certificates on that listener. `false` is accepted on a loopback
        /// address only.
        tls_enabled: bool = Text("true"), switch();
        /// The agent's certificate chain, PEM.
        tls_cert: PathBuf = Text("/etc/ghost/certs/agent.crt"), path();
        /// Its private key, PEM.
        tls_key: PathBuf = Text("/etc/ghost/certs/agent.key"), path();
        /// The authorities that sign the clients' certificates, PEM.
        tls_ca: PathBuf = Text("/etc/ghost/certs/ca.crt"), path();
        /// Names (subjectAltName) of the certificates that are obeyed. In the environment they are
        /// separated by commas.
        allowed_clients: Vec<ClientName> =
            Text("spiffe://ghost/control-plane, spiffe://ghost/operator"), clients();
        /// Socket for agentctl on this host.
        unix_socket: Option<PathBuf> = Text("/run/ghost/agent.sock"), optional(socket_path());
    }

    /// The life of a VM.
    pub vm: Vm {
        /// How long a new VM may take to get its address.
        address_timeout: Duration = Text("120s"), duration(seconds(1..=3600));
        /// How long a guest may take to power off before its power is cut.
        stop_timeout: Duration = Text("30s"), duration(seconds(1..=3600));
        /// Keep a VM that got no address in time, for a look at it, instead of undoing it.
        keep_failed: bool = Text("false"), switch();
    }

    /// The log.
    pub logging: Logging {
        /// The least severe level that is logged.
        level: LogLevel = Text("info"), choice(&[
            ("debug", LogLevel::Debug), ("info", LogLevel::Info),
            ("warn", LogLevel::Warn), ("error", LogLevel::Error),
        ]);
        /// Where the log goes. Started by systemd, `stdout` is its journal, natively: with fields.
        output: LogOutput = Text("stdout"), choice(&[
            ("stdout", LogOutput::Stdout), ("file", LogOutput::File), ("both", LogOutput::Both),
        ]);
        /// The log file, where `output` asks for one. Moved files stay beside it, compressed. `SIGHUP` opens it
        /// anew.
        file: PathBuf = Text("/var/log/ghost/agent.log"), path();
        /// How a line looks, on standard output and in the file; `text` has colours on a terminal.
        format: LogFormat = Text("json"), choice(&[
            ("json", LogFormat::Json), ("text", LogFormat::Text),
        ]);
        /// Size in MiB that the log file does not exceed: before, it is moved out of the way.
        max_size: Bytes = Text("100"), whole(1..=10_240, "MiB")
            .map(|mib| Bytes(u64::from(mib) << 20));
        /// Age in days of its first line at which the log file is moved out of the way, and age at which a
        /// moved file is removed.
        max_age: Duration = Text("7"), whole(1..=3650, "days")
            .map(|days| Duration::from_secs(u64::from(days) * 86_400));
        /// Moved files that are kept at most.
        max_files: u32 = Text("10"), whole(1..=1000, "");
    }

    /// Metrics and health over HTTP.
    pub metrics: Metrics {
        /// Serve metrics for Prometheus. Health is served in either case.
        enabled: bool = Text("true"), switch();
        /// Address of the HTTP listener.
        listen_addr: SocketAddr = Text("127.0.0.1:9091"), socket_address();
        /// Path of the metrics.
        path: String = Text("/metrics"), http_path();
    }

    /// Traces, for a collector of OpenTelemetry.
    pub tracing: Tracing {
        /// Where the collector takes OTLP over gRPC, without TLS, such as `http://127.0.0.1:4317`. Without one
        /// nothing is traced.
        otlp_endpoint: Option<Url> = Text(""), optional(collector());
        /// Of how many calls that bring no trace along one is begun, as a share; a trace that a caller brings along is
        /// followed as that says.
        sample_ratio: f64 = Text("1.0"), ratio(0.0..=1.0);
    }

    /// The VPN: Tailscale's client, with Headscale or Tailscale behind it.
    pub vpn: Vpn {
        /// Socket of tailscaled, which is asked what the VPN is like. It need not exist.
        socket: PathBuf = Text("/var/run/tailscale/tailscaled.sock"), socket_path();
        /// Talk to the Ghost API only where it has an address in the VPN (or on this host).
        required_for_api: bool = Text("true"), switch();
    }
}

fn hours(range: RangeInclusive<u64>) -> RangeInclusive<Duration> {
    seconds(range.start() * 3600..=range.end() * 3600)
}

fn seconds(range: RangeInclusive<u64>) -> RangeInclusive<Duration> {
    Duration::from_secs(*range.start())..=Duration::from_secs(*range.end())
}

impl Vpn {
    /// Where the Ghost API may be.
    #[must_use]
    pub const fn api_reach(&self) -> ApiReach {
        match self.required_for_api {
            true => ApiReach::VpnOnly,
            false => ApiReach::Anywhere,
        }
    }
}

impl Resources {
    /// What the owner keeps, whatever the host has.
    #[must_use]
    pub const fn reservation(&self) -> ReservationRule {
        ReservationRule {
            cpus: self.reserved_cpu,
            ram: self.reserved_ram_gb,
            disk: self.reserved_disk_gb,
        }
    }

    /// How often the rest may be promised.
    #[must_use]
    pub const fn overcommit(&self) -> Overcommit {
        Overcommit { cpu: self.cpu_overcommit, disk: self.disk_overcommit }
    }
}
