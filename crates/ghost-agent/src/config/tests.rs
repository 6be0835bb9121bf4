//! The table held against its documentation, and the parts that need a host of their own.

use std::path::PathBuf;

use proptest::prelude::*;

use super::rules::{Raw, Shape};
use super::table::{Fallback, keys};
use super::*;

fn nothing_is_there(_: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::NotFound.into())
}

fn everything_is_there(_: &Path) -> std::io::Result<()> {
    Ok(())
}

fn source(path: Option<PathBuf>, env: &[(&str, &str)]) -> ConfigSource {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    ConfigSource { path, env, host_name: "johns-laptop.lan".to_owned() }
}

fn load_text(text: &str, look: Look<'_>) -> Result<Loaded, ConfigErrors> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.yaml");
    std::fs::write(&path, text).unwrap();
    load(&source(Some(path), &[]), look)
}

fn load_env(env: &[(&str, &str)], look: Look<'_>) -> Result<Loaded, ConfigErrors> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.yaml");
    std::fs::write(&path, "").unwrap();
    load(&source(Some(path), env), look)
}

#[test]
fn every_default_is_allowed() {
    let mut reader = Reader::new("pc");
    Settings::read(&mut reader);
    assert_eq!(reader.problems, []);
    assert_eq!(reader.effective.len(), keys().len());
}

#[test]
fn on_a_host_without_certificates_an_empty_file_serves_the_unix_socket_only() {
    for text in ["", "\n# nothing\n", "---\n", "agent:\ngrpc:\n", "~"] {
        let loaded = load_text(text, &nothing_is_there).unwrap();
        assert!(matches!(loaded.config.grpc.tcp, TcpListener::Off { .. }), "{text}");
        assert_eq!(loaded.config.grpc.unix_socket, Some(PathBuf::from("/run/ghost/agent.sock")));
        assert_eq!(
            loaded.notes,
            ["no certificates in /etc/ghost/certs, so the agent does not listen on TCP; \
              make some with: agentctl certs init /etc/ghost/certs"]
        );
    }
}

#[test]
fn with_certificates_an_empty_file_serves_tls_in_the_vpn_or_on_loopback() {
    let loaded = load_text("", &everything_is_there).unwrap();
    let files = TlsFiles {
        cert: "/etc/ghost/certs/agent.crt".into(),
        key: "/etc/ghost/certs/agent.key".into(),
        ca: "/etc/ghost/certs/ca.crt".into(),
    };
    let address = ListenAddr::Auto;
    assert_eq!(loaded.config.grpc.tcp, TcpListener::Tls { address, files });
    assert_eq!(loaded.notes, [""; 0]);
    assert_eq!(loaded.config.agent.name, "johns-laptop");
}

#[test]
fn whoever_asks_for_tcp_without_certificates_is_told_so() {
    let errors =
        load_env(&[("GHOST_GRPC__LISTEN_ADDR", "10.0.0.1:9090")], &nothing_is_there).unwrap_err();
    assert_eq!(errors.problems().len(), 3, "{errors}");
    let expected = "grpc.tls_ca: /etc/ghost/certs/ca.crt: does not exist; \
                    make it with: agentctl certs init /etc/ghost/certs";
    assert!(errors.to_string().contains(expected), "{errors}");
}

#[test]
fn an_agent_with_a_control_plane_awaits_what_it_will_be_given() {
    let only_ca = |path: &Path| match path.ends_with("ca.crt") {
        true => Ok(()),
        false => nothing_is_there(path),
    };
    let env = [
        ("GHOST_AGENT__API_URL", "https://api.ghost.internal"),
        ("GHOST_GRPC__LISTEN_ADDR", "tailscale:9443"),
        ("GHOST_GRPC__UNIX_SOCKET", ""),
    ];
    for look in [&nothing_is_there as Look<'_>, &only_ca] {
        let grpc = load_env(&env, look).unwrap().config.grpc;
        let TcpListener::Awaited { address, reason, .. } = grpc.tcp else {
            panic!("{:?}", grpc.tcp)
        };
        assert_eq!(address, ListenAddr::Tailscale { port: 9443 });
        assert!(reason.contains("missing: /etc/ghost/certs/agent.crt, "), "{reason}");
    }
    let locked = |_: &Path| Err(std::io::ErrorKind::PermissionDenied.into());
    let errors = load_env(&env, &locked).unwrap_err();
    assert_eq!(errors.problems().len(), 3, "what may not be looked at is not awaited: {errors}");
}

#[test]
fn a_certificate_without_its_key_is_an_error_even_at_the_default_paths() {
    let only_cert = |path: &Path| match path.ends_with("agent.crt") {
        true => Ok(()),
        false => nothing_is_there(path),
    };
    let errors = load_text("", &only_cert).unwrap_err();
    assert_eq!(errors.problems().len(), 2, "{errors}");
}

#[test]
fn certificates_that_may_not_be_looked_at_are_not_absent() {
    let locked = |_: &Path| Err(std::io::ErrorKind::PermissionDenied.into());
    let errors = load_text("", &locked).unwrap_err();
    assert!(
        errors.to_string().contains("permission denied; run as the user of the agent"),
        "{errors}"
    );
}

#[test]
fn an_agent_that_nobody_could_reach_does_not_start() {
    let errors = load_env(&[("GHOST_GRPC__UNIX_SOCKET", "")], &nothing_is_there).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "environment GHOST_GRPC__UNIX_SOCKET: is off and so is TCP, so nobody could command the agent: \
         no certificates in /etc/ghost/certs, so the agent does not listen on TCP; \
         make some with: agentctl certs init /etc/ghost/certs"
    );
}

#[test]
fn every_key_can_be_set_by_its_variable() {
    let keys = keys();
    let settable: Vec<(String, &str)> = keys
        .iter()
        .map(|key| match key.fallback {
            Fallback::Text(text) => (key.variable(), text),
            Fallback::HostName => (key.variable(), "pc"),
        })
        .collect();
    let env: Vec<(&str, &str)> =
        settable.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let loaded = load_env(&env, &everything_is_there).unwrap();
    for value in &loaded.effective {
        assert!(matches!(value.origin, Origin::Environment(_)), "{value:?}");
    }
}

#[test]
fn the_example_with_its_lines_uncommented_is_the_default() {
    let uncommented: String = docs::example()
        .lines()
        .map(|line| match line.strip_prefix("  #") {
            Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase()) => format!("  {key}\n"),
            Some(_) | None => format!("{line}\n"),
        })
        .collect();
    let mut example = load_text(&uncommented, &everything_is_there).unwrap();
    let defaults = load_text("", &everything_is_there).unwrap();
    assert_eq!(example.config.agent.name, "my-pc");
    example.config.agent.name.clone_from(&defaults.config.agent.name);
    assert_eq!(example.config, defaults.config);
    let set = example.effective.iter().filter(|value| value.origin != Origin::Default);
    assert_eq!(set.count(), keys().len() - 1, "all but agent.version are in the example");
}

/// Fails if `path` differs from what the table gives; `BLESS=1` writes it instead.
fn assert_generated(path: &str, expected: impl Fn(&str) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let expected = expected(&found);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &expected).unwrap();
        return;
    }
    assert!(
        found == expected,
        "{} does not match the table of keys; write it with: BLESS=1 cargo nextest run -p ghost-agent",
        path.display()
    );
}

#[test]
fn the_documentation_matches_the_table() {
    assert_generated("docs/configuration.md", |found| {
        let (before, rest) = found.split_once(docs::BEGIN).unwrap();
        let (_, after) = rest.split_once(docs::END).unwrap();
        format!("{before}{}\n\n{}{}{after}", docs::BEGIN, docs::markdown(), docs::END)
    });
}

#[test]
fn the_packaged_example_matches_the_table() {
    assert_generated("packaging/config/agent.yaml", |_| docs::example());
}

#[test]
fn the_reservation_is_a_quarter_of_the_host_unless_it_is_given() {
    use ghost_core::domain::{ReservationRule, Reserve};
    let [cpus, ram, disk] = [0, 4, 50].map(Reserve::Exactly);
    let text = "resources: {reserved_cpu: 0, reserved_ram_gb: 4, reserved_disk_gb: 50}";
    let given = load_text(text, &nothing_is_there).unwrap().config.resources;
    let auto = load_text("", &nothing_is_there).unwrap().config.resources;
    let quarter = Reserve::Quarter;
    assert_eq!(given.reservation(), ReservationRule { cpus, ram, disk });
    assert_eq!(auto.reservation(), ReservationRule { cpus: quarter, ram: quarter, disk: quarter });
}

/// Texts that come near to a configuration, so that more than the YAML parser is reached.
fn nearly_yaml() -> impl Strategy<Value = String> {
    let words: Vec<String> = keys()
        .iter()
        .flat_map(|key| [key.section.to_owned(), key.name.to_owned()])
        .chain(
            [
                "\n", "  ", ":", ": ", " - ", "[", "]", "{", "}", "&a", "*a", "!!str ", "\"", "'",
                "#", "---\n", "|\n", "30s", "010", "true", "~", ",", "? ", "%", "\t", "\u{feff}",
                "é",
            ]
            .map(str::to_owned),
        )
        .collect();
    proptest::collection::vec(proptest::sample::select(words), 0..40)
        .prop_map(|words| words.concat())
}

/// What the daemon does with a text, without a file.
fn read(text: &str) -> Vec<Problem> {
    let mut reader = Reader::new("pc");
    file::give(Path::new("agent.yaml"), text, &mut reader);
    Settings::read(&mut reader);
    reader.problems
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_with_one_line_per_problem(text in "\\PC{0,200}|(?s).{0,100}") {
        for problem in read(&text) {
            prop_assert!(!problem.to_string().chars().any(char::is_control), "{problem:?}");
        }
    }

    #[test]
    fn any_text_of_known_words_is_read_or_refused(text in nearly_yaml()) {
        for problem in read(&text) {
            prop_assert!(!problem.to_string().chars().any(char::is_control), "{problem:?}");
        }
    }

    #[test]
    fn any_value_of_any_variable_is_read_or_refused(
        index in any::<prop::sample::Index>(),
        value in "\\PC{0,80}|[0-9a-z.:/,]{0,20}",
    ) {
        let keys = keys();
        let variable = index.get(&keys).variable();
        let env = BTreeMap::from([(variable.clone(), value)]);
        let mut reader = Reader::new("pc");
        environment::give(&env, &mut reader);
        Settings::read(&mut reader);
        for problem in &reader.problems {
            let begins_with = format!("environment {variable}: ");
            prop_assert!(problem.to_string().starts_with(&begins_with), "{problem}");
        }
    }

    #[test]
    fn a_thousand_brackets_cost_no_stack(depth in 1000_usize..20_000) {
        let lists = "[".repeat(depth);
        let mappings = format!("agent: {}", "{a: ".repeat(depth));
        prop_assert!(!read(&lists).is_empty() && !read(&mappings).is_empty());
    }
}

#[test]
fn lists_are_the_only_values_with_several_items() {
    for key in keys() {
        let raw = Raw::Many(Vec::new());
        let mut reader = Reader::new("pc");
        reader.give(&key, raw, Origin::Default);
        Settings::read(&mut reader);
        let text = reader.problems.first().map(ToString::to_string);
        let says = |what: &str| text.as_ref().is_some_and(|text| text.contains(what));
        match (key.shape, key.fallback) {
            (Shape::One, _) => {
                assert!(says("is a list, where one value is expected"), "{key:?} {text:?}");
            }
            // What is empty unless somebody says otherwise may be empty.
            (Shape::Many, Fallback::Text("")) => assert_eq!(text, None, "{key:?}"),
            (Shape::Many, _) => assert!(says("names nobody"), "{key:?} {text:?}"),
        }
    }
}
