//! `ghost-agent check-config`: what the owner reads when the configuration is right, and when it is
//! not.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

#[path = "check_config/refused.rs"]
mod refused;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ghost_agent::config::check::{Detail, Report, run};
use ghost_agent::config::{
    Acceleration, ClientName, Config, ConfigSource, Loaded, LogLevel, TcpListener,
};
use ghost_core::domain::Reserve;
use tempfile::TempDir;

/// A folder with one configuration and three (empty) TLS files.
struct Host {
    folder: TempDir,
}

impl Host {
    fn with(text: impl AsRef<[u8]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("agent.yaml"), text).unwrap();
        for file in ["agent.crt", "agent.key", "ca.crt"] {
            std::fs::write(folder.path().join(file), "").unwrap();
        }
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("agent.yaml")
    }

    fn source(&self, env: &[(&str, &str)]) -> ConfigSource {
        let env =
            env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        ConfigSource { path: Some(self.path()), env, host_name: "pc".to_owned() }
    }

    fn load(&self, env: &[(&str, &str)]) -> Loaded {
        Config::load(&self.source(env)).unwrap_or_else(|errors| panic!("{errors}"))
    }

    /// Standard error of a refused configuration, with `FILE` for the file's path.
    fn refusal(&self, env: &[(&str, &str)]) -> String {
        let Report { stdout, stderr, exit_code } = run(&self.source(env), Detail::Verdict);
        assert_eq!((stdout.as_str(), exit_code), ("", 78), "{stderr}");
        stderr.replace(&self.path().display().to_string(), "FILE")
    }
}

/// Without TLS, so that no file but the configuration is needed.
const PLAIN: &str = "grpc: {tls_enabled: false}\n";

fn refusal_of(text: impl AsRef<[u8]>) -> String {
    Host::with(text).refusal(&[])
}

#[test]
fn each_wrong_value_is_named_with_file_line_cause_and_what_is_allowed() {
    for (text, expected) in refused::REFUSED {
        // The first section alone would ask for certificates at the default paths.
        assert_eq!(refusal_of(format!("{text}\n")), format!("{expected}\n"), "{text}");
    }
}

#[test]
fn each_wrong_value_of_the_grpc_section_is_named() {
    let socket = format!("/{}", "a".repeat(107));
    let clients = "allowed: a list of 1 to 64 URIs or DNS names, matched exactly; default spiffe://ghost/control-plane, spiffe://ghost/operator";
    for (text, expected) in [
        ("allowed_clients: []", format!("grpc.allowed_clients: names nobody ({clients})")),
        ("allowed_clients: a.b", format!("grpc.allowed_clients: is one value, where a list is expected; write [\"a.b\"] ({clients})")),
        ("allowed_clients: [\"*.ghost\"]", format!("grpc.allowed_clients: \"*.ghost\" has a wildcard, and names are matched exactly ({clients})")),
        ("allowed_clients: [[a]]", format!("grpc.allowed_clients: is a list of something else than texts ({clients})")),
        ("allowed_clients: [a b]", format!("grpc.allowed_clients: \"a b\" is neither a URI nor a DNS name ({clients})")),
        (&format!("unix_socket: {socket}"), "grpc.unix_socket: has 108 bytes, too long for a socket (allowed: an absolute path without .., at most 107 bytes, or \"\" for none; default /run/ghost/agent.sock)".to_owned()),
        ("listen_addr: 127.0.0.1:9091", "grpc.listen_addr: gRPC on 127.0.0.1:9091 and metrics on 127.0.0.1:9091 want the same port; change one".to_owned()),
    ] {
        let file = format!("grpc:\n  tls_enabled: false\n  {text}\n");
        assert_eq!(refusal_of(file), format!("FILE:3: {expected}\n"), "{text}");
    }
}

#[test]
fn without_tls_only_loopback_is_served() {
    let public = "grpc:\n  listen_addr: 0.0.0.0:9090\n  tls_enabled: false\n";
    assert_eq!(
        refusal_of(public),
        "FILE:3: grpc.tls_enabled: false is accepted on a loopback address only, and grpc.listen_addr is \
         0.0.0.0:9090; set it to true, or listen on 127.0.0.1:9090\n"
    );
    let loaded = Host::with("grpc: {listen_addr: '[::1]:0', tls_enabled: false}").load(&[]);
    assert_eq!(loaded.config.grpc.tcp, TcpListener::Plain { address: "[::1]:0".parse().unwrap() });
    assert_eq!(
        loaded.notes,
        [
            "grpc.tls_enabled is false: every user and program of this host may command the agent at [::1]:0"
        ]
    );
}

#[test]
fn in_the_vpn_everything_speaks_tls() {
    assert_eq!(
        refusal_of("grpc:\n  listen_addr: tailscale:9090\n  tls_enabled: false\n"),
        "FILE:3: grpc.tls_enabled: false is accepted on a loopback address only, and grpc.listen_addr is \
         tailscale:9090; set it to true, or listen on 127.0.0.1:9090\n"
    );
    let plain = Host::with("grpc: {tls_enabled: false}").load(&[]).config.grpc.tcp;
    assert_eq!(plain, TcpListener::Plain { address: "127.0.0.1:9090".parse().unwrap() });
}

#[test]
fn the_port_in_the_vpn_is_one_and_nobody_elses() {
    let allowed = "allowed: IP:PORT or [IPv6]:PORT, port 0 for any free one; tailscale:PORT; auto; default auto";
    for port in ["", "0", "65536", "+9090", "http"] {
        let text = format!("grpc:\n  listen_addr: \"tailscale:{port}\"\n  tls_enabled: false\n");
        assert_eq!(
            refusal_of(text),
            format!(
                "FILE:2: grpc.listen_addr: \"tailscale:{port}\" has no port from 1 to 65535 ({allowed})\n"
            )
        );
    }
    for (metrics, grpc) in [("0.0.0.0:9090", "auto"), ("100.64.0.7:9443", "tailscale:9443")] {
        let host = Host::with("");
        let folder = host.folder.path().display().to_string();
        let text = format!(
            "metrics:\n  listen_addr: {metrics}\ngrpc:\n  listen_addr: {grpc}\n  tls_cert: {folder}/agent.crt\n  \
             tls_key: {folder}/agent.key\n  tls_ca: {folder}/ca.crt\n"
        );
        assert_eq!(
            Host::with(text).refusal(&[]),
            format!(
                "FILE:2: metrics.listen_addr: gRPC on {grpc} and metrics on {metrics} want the same port; change one\n"
            )
        );
    }
}

#[test]
fn tls_files_that_were_named_must_exist() {
    let host = Host::with("");
    let folder = host.folder.path().display().to_string();
    let text = format!(
        "grpc:\n  tls_cert: {folder}/agent.crt\n  tls_key: {folder}/none/agent.key\n  tls_ca: {folder}\n"
    );
    assert_eq!(
        Host::with(text).refusal(&[]).replace(&folder, "DIR"),
        "FILE:3: grpc.tls_key: DIR/none/agent.key: does not exist; make it with: agentctl certs init DIR/none\n\
         FILE:4: grpc.tls_ca: DIR: is not a file; name a readable file\n"
    );
}

#[test]
fn all_problems_are_reported_at_once_in_the_order_of_the_file_then_of_the_environment() {
    let text = "\
agent:
  name: -x-
  colour: red
vm:
  stop_timeout: 30
grpc:
  listen_addr: 0.0.0.0:1
  tls_enabled: false
";
    let env = [
        ("GHOST_LOGGING__LEVEL", "loud"),
        ("GHOST_VM__STOP_TIMEOUT", "5s"),
        ("GHOST_API_KEY", "a b"),
    ];
    let refusal = Host::with(text).refusal(&env);
    let places: Vec<&str> = refusal.lines().map(|line| line.split_once(": ").unwrap().0).collect();
    assert_eq!(
        places,
        [
            "FILE:2",
            "FILE:3",
            "FILE:5",
            "FILE:8",
            "environment GHOST_API_KEY",
            "environment GHOST_LOGGING__LEVEL"
        ],
        "{refusal}"
    );
}

#[test]
fn the_environment_is_stronger_than_the_file() {
    let loaded = Host::with("logging: {level: debug, format: text}\ngrpc: {tls_enabled: false}\n")
        .load(&[
            ("GHOST_LOGGING__LEVEL", "error"),
            ("GHOST_GRPC__UNIX_SOCKET", ""),
            ("GHOST_GRPC__ALLOWED_CLIENTS", "spiffe://a/b, Ops.Example.org"),
            ("HOME", "/root"),
            ("GHOST_ADDR", "of agentctl"),
        ]);
    let config = loaded.config;
    assert_eq!(config.logging.level, LogLevel::Error);
    assert_eq!(config.grpc.unix_socket, None);
    assert_eq!(
        config.grpc.allowed_clients,
        [ClientName::Uri("spiffe://a/b".to_owned()), ClientName::Dns("ops.example.org".to_owned())]
    );
}

#[test]
fn images_are_kept_and_searched_for_as_the_owner_says() {
    let hours = |n: u64| Some(Duration::from_secs(n * 3600));
    let unset = Host::with(PLAIN).load(&[]).config.images;
    assert!(unset.builtin_catalog && unset.catalog.is_none() && unset.mirrors.is_empty());
    assert_eq!((unset.update_interval, unset.verify_interval), (hours(168), hours(720)));
    assert_eq!((unset.keep_versions, unset.cache_limit_gb, unset.max_image_gb), (1, None, 20));

    let set = Host::with(format!(
        "{PLAIN}images: {{update_interval: off, verify_interval: 24h, mirrors: [\"https://a/=https://b/\"]}}"
    ))
    .load(&[
        ("GHOST_IMAGES__MIRRORS", "https://a/=https://m/a/, https://b/=file:///srv/b/"),
        ("GHOST_IMAGES__CACHE_LIMIT_GB", "50"),
        ("GHOST_IMAGES__UPDATE_INTERVAL", ""),
    ])
    .config
    .images;
    assert_eq!((set.update_interval, set.verify_interval), (None, hours(24)));
    assert_eq!(set.cache_limit_gb, Some(50));
    let to: Vec<&str> = set.mirrors.iter().map(|(_, to)| to.as_str()).collect();
    assert_eq!(to, ["https://m/a/", "file:///srv/b/"]);
    let off = Host::with(format!("{PLAIN}images: {{update_interval: off}}")).load(&[]);
    assert_eq!(off.config.images.update_interval, None);
}

#[test]
fn a_misspelt_variable_is_refused_with_the_nearest_one() {
    for (name, expected) in [
        ("GHOST_GRPC__LISTEN_ADR", "unknown key; did you mean GHOST_GRPC__LISTEN_ADDR?"),
        (
            "GHOST_GRPC_LISTEN_ADDR",
            "sets nothing; did you mean GHOST_GRPC__LISTEN_ADDR, with two underscores?",
        ),
        ("GHOST_X__Y", "unknown key; `ghost-agent check-config --show` lists all"),
        (
            "GHOST_AGENT__API_KEY",
            "the secret does not belong into a file; set it in the environment as GHOST_API_KEY",
        ),
    ] {
        let refusal = Host::with(PLAIN).refusal(&[(name, "v")]);
        assert_eq!(refusal, format!("environment {name}: {expected}\n"));
    }
}

#[test]
fn the_secret_is_shown_nowhere() {
    const SECRET: &str = "hunter2-hunter2";
    let host = Host::with(PLAIN);
    let source = host.source(&[("GHOST_API_KEY", SECRET)]);
    let loaded = Config::load(&source).unwrap();
    assert_eq!(loaded.config.api_key.as_ref().unwrap().expose(), SECRET);
    let shown = format!("{loaded:?}{source:?}{:?}", run(&source, Detail::Values));
    assert!(!shown.contains("hunter2"), "{shown}");

    for (text, env) in [
        (format!("agent: {{api_key: {SECRET}}}"), [("GHOST_X", "")]),
        (format!("agent: {{api_url: 'https://u:{SECRET}@h'}}"), [("GHOST_X", "")]),
        (PLAIN.to_owned(), [("GHOST_API_KEY", "hunter2 \u{7f}")]),
    ] {
        let refusal = Host::with(text).refusal(&env);
        assert!(!refusal.contains("hunter2"), "{refusal}");
    }
}

#[test]
fn an_empty_secret_is_none() {
    assert_eq!(Host::with(PLAIN).load(&[("GHOST_API_KEY", " ")]).config.api_key, None);
}

#[test]
fn a_file_that_was_named_must_exist() {
    let source = ConfigSource {
        path: Some(PathBuf::from("/nonexistent/agent.yaml")),
        env: BTreeMap::new(),
        host_name: String::new(),
    };
    assert_eq!(
        run(&source, Detail::Verdict).stderr,
        "/nonexistent/agent.yaml: does not exist; name an existing file with --config, or leave --config out\n"
    );
}

#[test]
fn what_is_no_text_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let source = ConfigSource {
        path: Some(folder.path().to_owned()),
        env: BTreeMap::new(),
        host_name: String::new(),
    };
    let refusal = run(&source, Detail::Verdict).stderr;
    assert!(refusal.contains("it is not a regular file"), "{refusal}");

    assert_eq!(
        refusal_of(b"agent:\n  name: caf\xe9\n"),
        "FILE:2: is not UTF-8 text; save the file as UTF-8\n"
    );
    assert_eq!(
        refusal_of(vec![b'#'; (1 << 20) + 1]),
        "FILE: is larger than 1 MiB; a configuration has a few KiB\n"
    );
    assert_eq!(Host::with(vec![b'#'; 1 << 20]).refusal(&[("GHOST_X__Y", "")]).lines().count(), 1);
}

#[test]
fn broken_yaml_is_named_with_its_line() {
    for (text, line) in [
        ("agent:\n  name: \"x\n", 2),
        ("agent:\n\tname: x\n", 2),
        ("vm: {}\nagent: [\n", 2),
        ("vm:\n  a: b: c\n", 2),
    ] {
        let refusal = refusal_of(text);
        assert!(
            refusal.starts_with(&format!("FILE:{line}: not readable as YAML: ")),
            "{text}: {refusal}"
        );
        assert_eq!(refusal.lines().count(), 1, "{refusal}");
    }
}

#[test]
fn a_billion_laughs_are_not_laughed() {
    let mut text = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (name, of) in ('b'..='j').zip('a'..='i') {
        text += &format!("{name}: &{name} [{}]\n", vec![format!("*{of}"); 9].join(", "));
    }
    assert!(refusal_of(text).contains("anchors, aliases and tags are not accepted"));
}

/// The file of the requirements, but for the folder of the certificates.
fn requirements(certs: &Path) -> String {
    format!(
        r#"
agent:
  # Unique name for this agent
  name: "johns-laptop"
  api_url: "https://100.64.0.1:8080"
  heartbeat_interval: 30s
  version: "1.0.0"
libvirt:
  uri: "qemu:///system"
  storage_pool: "default"
  network: "default"
  image_cache: "/var/lib/ghost/images"
resources:
  reserved_cpu: 2
  reserved_ram_gb: 4
  reserved_disk_gb: 50
grpc:
  listen_addr: "0.0.0.0:9090"
  tls_enabled: true
  tls_cert: "{certs}/agent.crt"
  tls_key: "{certs}/agent.key"
  tls_ca: "{certs}/ca.crt"
logging:
  level: "info"
  output: "both"
  file: "/var/log/ghost/agent.log"
  format: "json"
  max_size: 100
  max_age: 7
metrics:
  enabled: true
  listen_addr: "0.0.0.0:9091"
  path: "/metrics"
"#,
        certs = certs.display()
    )
}

#[test]
fn the_file_of_the_requirements_is_accepted_as_it_is() {
    let certs = Host::with("");
    let loaded = Host::with(requirements(certs.folder.path())).load(&[]);
    let config = loaded.config;
    assert_eq!(config.agent.name, "johns-laptop");
    assert_eq!(config.agent.api_url.unwrap().as_str(), "https://100.64.0.1:8080/");
    assert_eq!(config.agent.heartbeat_interval, Duration::from_secs(30));
    assert_eq!(config.resources.reserved_disk_gb, Reserve::Exactly(50));
    assert_eq!(config.hypervisor.acceleration, Acceleration::Kvm);
    assert_eq!(config.logging.max_size.0, 100 << 20);
    assert_eq!(config.logging.max_age, Duration::from_secs(7 * 86_400));
    assert!(matches!(config.grpc.tcp, TcpListener::Tls { address, .. } if address.port() == 9090));
    assert!(
        loaded.notes[0]
            .ends_with("agent.yaml:7: agent.version is ignored; the agent reports its own version")
    );
    assert_eq!(
        loaded.notes[1],
        "metrics.listen_addr is 0.0.0.0:9091: whoever reaches it may read metrics and health"
    );
}

#[test]
fn a_verdict_is_one_line() {
    let host = Host::with(PLAIN);
    let report = run(&host.source(&[]), Detail::Verdict);
    assert_eq!(report.stdout, format!("{}: OK\n", host.path().display()));
    assert_eq!(report.exit_code, 0);
    assert!(report.stderr.starts_with("note: grpc.tls_enabled is false"), "{}", report.stderr);
}

#[test]
fn the_values_are_shown_with_their_origins() {
    let host =
        Host::with("agent:\n  name: 'true'\nvm:\n  stop_timeout: 5s\ngrpc: {tls_enabled: false}\n");
    let report = run(&host.source(&[("GHOST_METRICS__PATH", "/m")]), Detail::Values);
    let shown = report.stdout.replace(&host.path().display().to_string(), "FILE");
    for line in [
        "# FILE: OK",
        "  name: \"true\"  # FILE:2",
        "  stop_timeout: 5s  # FILE:4",
        "  path: /m  # environment GHOST_METRICS__PATH",
        "  address_timeout: 120s  # default",
        "  allowed_clients: [\"spiffe://ghost/control-plane\", \"spiffe://ghost/operator\"]  # default",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
}

#[test]
fn the_values_that_are_shown_load_as_the_same_configuration() {
    let certs = Host::with("");
    let images = format!(
        "{PLAIN}images: {{mirrors: ['https://a/=file:///srv/a/', 'https://b/=https://c/'], update_interval: off, \
         verify_interval: '', cache_limit_gb: 50}}"
    );
    for text in [PLAIN.to_owned(), requirements(certs.folder.path()), images] {
        let host = Host::with(text);
        let shown = run(&host.source(&[]), Detail::Values).stdout;
        assert_eq!(Host::with(shown).load(&[]).config, host.load(&[]).config);
    }
}

/// The program itself, in an environment without variables of its own.
fn check_config(host: &Host) -> assert_cmd::Command {
    let mut program = assert_cmd::Command::new(env!("CARGO_BIN_EXE_ghost-agent"));
    program.env_clear().args(["check-config", "--config"]).arg(host.path());
    program
}

#[test]
fn the_program_exits_with_78_and_the_problems_on_standard_error() {
    let host = Host::with("vm: {x: 1}\n");
    let expected = format!(
        "{}:1: vm.x: unknown key; vm has address_timeout, stop_timeout, keep_failed\n",
        host.path().display()
    );
    check_config(&host).assert().code(78).stdout("").stderr(expected);
}

#[test]
fn the_program_obeys_its_environment() {
    let host = Host::with(PLAIN);
    let shown = check_config(&host).arg("--show").env("GHOST_VM__STOP_TIMEOUT", "7s").assert();
    let stdout = String::from_utf8(shown.success().get_output().stdout.clone()).unwrap();
    let line = "  stop_timeout: 7s  # environment GHOST_VM__STOP_TIMEOUT";
    assert!(stdout.lines().any(|shown| shown == line), "{stdout}");
}
