//! Whatever the documentation tells its reader to type is a command line of ours.

use std::path::{Path, PathBuf};

use clap::Parser as _;
use clap::error::ErrorKind;

use super::Cli;

/// Where agentctl is meant when it is named.
const PAGES: [&str; 3] = ["README.md", "docs", "docs/observability"];

/// The Markdown files.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let below = |place: &str| {
        let place = root.join(place);
        if place.is_file() {
            return vec![place];
        }
        let found = place.read_dir().unwrap().map(|entry| entry.unwrap().path());
        found.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
    };
    PAGES.into_iter().flat_map(below).collect()
}

/// What of `text` is a whole command of agentctl: not the shell's part, nor what is left out (`…`).
fn command(text: &str) -> Option<Vec<&str>> {
    let text = text.trim_start().trim_start_matches("sudo ");
    let words: Vec<&str> = text
        .split_whitespace()
        .take_while(|word| !word.starts_with(['#', '|', '>', '<', '&', ';']))
        .collect();
    let whole = words.first() == Some(&"agentctl") && !words.iter().any(|word| word.contains('…'));
    whole.then_some(words)
}

/// The commands of a page: those to be typed, and those that its sentences name.
fn commands(page: &str) -> Vec<Vec<&str>> {
    let mut found = Vec::new();
    for (n, part) in page.split("```").enumerate() {
        let to_type = part.strip_prefix("sh\n").filter(|_| n % 2 == 1);
        match to_type {
            Some(script) => {
                let typed = script.lines().flat_map(|line| line.split("&&"));
                found.extend(typed.filter_map(command));
            }
            None if n % 2 == 1 => {}
            None => found.extend(part.split('`').skip(1).step_by(2).filter_map(command)),
        }
    }
    found
}

/// Why it is none, unless a sentence only names a noun or a verb.
fn complaint(words: &[&str]) -> Option<String> {
    let error = Cli::try_parse_from(words).err()?;
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        | ErrorKind::MissingRequiredArgument
        | ErrorKind::MissingSubcommand => None,
        _ => Some(format!("{}: {error}", words.join(" "))),
    }
}

#[test]
fn each_command_that_the_documentation_names_exists() {
    let (mut count, mut wrong) = (0, Vec::new());
    for path in pages() {
        let page = std::fs::read_to_string(&path).unwrap();
        for words in commands(&page) {
            count += 1;
            wrong.extend(complaint(&words).map(|why| format!("{}: {why}", path.display())));
        }
    }
    assert!(count > 100, "{count} found: they are looked for wrongly");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_verb_or_an_option_that_is_none_is_complained_of() {
    for text in ["agentctl vm strat web", "agentctl log-level loud", "agentctl status --no-such"] {
        assert!(complaint(&command(text).unwrap()).is_some(), "{text}");
    }
    let page = "Ask `agentctl status`.\n```sh\nsudo agentctl debug bundle | x  # why\n```\n";
    assert_eq!(commands(page), [vec!["agentctl", "status"], vec!["agentctl", "debug", "bundle"]]);
}
