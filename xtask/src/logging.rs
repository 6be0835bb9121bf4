//! How errors are logged. Invariant: an error is handed to the log whole, never as its text, so that its line tells its class, its
//! causes and where a fault was found.

use std::path::Path;

use anyhow::{Context as _, bail};

/// The crates whose lines the agent's log writes.
const CRATES: [&str; 5] =
    ["ghost-core", "ghost-host", "ghost-libvirt", "ghost-door", "ghost-agent"];

/// What makes a text of an error.
const TEXTS: [&str; 8] =
    ["error = %", "error = ?", "%error", "?error", "%err,", "?err,", "%e,", "?e,"];

/// Reads the sources as they are and fails with every line that logs only an error's text.
pub(crate) fn check() -> anyhow::Result<()> {
    let mut found = Vec::new();
    for name in CRATES {
        look(&Path::new("crates").join(name).join("src"), &mut found)?;
    }
    if found.is_empty() {
        return Ok(());
    }
    bail!(
        "{} line(s) log only the text of an error:\n  {}\nremedy: write error = cause(&error), of ghost_core::domain",
        found.len(),
        found.join("\n  ")
    )
}

fn look(folder: &Path, found: &mut Vec<String>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        match path.file_stem().and_then(|stem| stem.to_str()) {
            Some("tests") | None => {}
            Some(_) if path.is_dir() => look(&path, found)?,
            Some(_) if path.extension().is_none_or(|extension| extension != "rs") => {}
            Some(_) => {
                let source = std::fs::read_to_string(&path)?;
                let texts = violations(&source);
                found.extend(texts.iter().map(|line| format!("{}:{line}", path.display())));
            }
        }
    }
    Ok(())
}

/// The numbers of the lines, from one, and the lines; none of the tests at the file's end.
fn violations(source: &str) -> Vec<String> {
    let lines = source.lines().enumerate();
    let code = lines.take_while(|(_, line)| *line != "mod tests {").filter(|(_, line)| {
        let line = line.trim_start();
        !line.starts_with("//") && TEXTS.iter().any(|text| line.contains(text))
    });
    code.map(|(n, line)| format!("{}: {}", n + 1, line.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_handed_to_the_log_whole() {
        for refused in [
            "tracing::warn!(%error, \"failed\");",
            "tracing::warn!(error = %unsaved, \"failed\");",
            "    cause = ?error, \"failed\"",
            "tracing::debug!(%e, \"failed\");",
        ] {
            assert_eq!(violations(&format!("\n{refused}")), [format!("2: {}", refused.trim())]);
        }
    }

    #[test]
    fn what_is_no_text_of_an_error_is_let_pass() {
        let source = "tracing::warn!(error = cause(&error), %path, \"failed\");\n// as %error\n\
                      #[cfg(test)]\nmod tests {\n    warn!(%error);\n}\n";
        assert_eq!(violations(source), [""; 0]);
    }
}
