//! The table of faults in docs/reliability.md, made from the tests themselves. Invariant: a row has a test that
//! runs, and a test that names a fault has a row.
//!
//! A test names its fault in its docstring: `/// Fault: … Promise: 1, 2. Result: …`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::run;

const PAGE: &str = "docs/reliability.md";
const BEGIN: &str = "<!-- made by: cargo xtask reliability -->\n";
const END: &str = "<!-- end -->";
/// Where tests are.
const ROOTS: [&str; 2] = ["crates", "tests"];

/// Whether the page is to be written or only looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Writes the table.
    Write,
    /// Fails if the table is not as the tests are.
    Check,
}

/// One fault and the test that stages it.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    fault: String,
    promise: String,
    result: String,
    test: String,
}

/// Brings the page up to date, or tells that it is not.
pub(crate) fn reliability(mode: Mode) -> anyhow::Result<()> {
    let root = run::root();
    let root = root.as_path();
    let mut files = Vec::new();
    for folder in ROOTS {
        rust_files(&root.join(folder), &mut files)?;
    }
    files.sort();
    let mut rows = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let shown = file.strip_prefix(root).unwrap_or(&file).display().to_string();
        rows.extend(rows_of(&text, &shown)?);
    }
    ensure!(!rows.is_empty(), "no test names a fault");
    let page = root.join(PAGE);
    let before = fs::read_to_string(&page).with_context(|| PAGE.to_owned())?;
    let after = with_table(&before, &table(&rows)?)?;
    match mode {
        Mode::Write => Ok(fs::write(page, after)?),
        Mode::Check if before == after => Ok(()),
        Mode::Check => {
            anyhow::bail!("{PAGE} is not as the tests are; remedy: cargo xtask reliability")
        }
    }
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// The rows that a file's docstrings make.
fn rows_of(text: &str, file: &str) -> anyhow::Result<Vec<Row>> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let begins = lines.iter().enumerate().filter(|(_, line)| line.starts_with("/// Fault: "));
    begins.map(|(at, _)| row(&lines[at..], file)).collect()
}

fn row(lines: &[&str], file: &str) -> anyhow::Result<Row> {
    let paragraph = lines.iter().map_while(|line| line.strip_prefix("/// "));
    let paragraph = paragraph.collect::<Vec<_>>().join(" ");
    let whole = || format!("{file}: '{paragraph}' is not 'Fault: … Promise: … Result: …'");
    let (fault, rest) = paragraph.split_once(" Promise: ").with_context(whole)?;
    let (promise, result) = rest.split_once(" Result: ").with_context(whole)?;
    let name = lines.iter().find_map(|line| line.split_once("fn ")?.1.split('(').next());
    let name = name.with_context(|| format!("{file}: no test follows '{paragraph}'"))?;
    let plain = |text: &str| text.trim().trim_end_matches('.').replace('|', "\\|");
    Ok(Row {
        fault: plain(fault.trim_start_matches("Fault: ")),
        promise: plain(promise),
        result: plain(result),
        test: format!("`{name}` ({file})"),
    })
}

fn table(rows: &[Row]) -> anyhow::Result<String> {
    let mut table = String::from("| Fault | Promise | Result | Test |\n|---|---|---|---|\n");
    for Row { fault, promise, result, test } in rows {
        writeln!(table, "| {fault} | {promise} | {result} | {test} |")?;
    }
    Ok(table)
}

fn with_table(page: &str, table: &str) -> anyhow::Result<String> {
    let missing = || format!("{PAGE} lacks the line '{}' or '{END}'", BEGIN.trim_end());
    let (head, rest) = page.split_once(BEGIN).with_context(missing)?;
    let (_, tail) = rest.split_once(END).with_context(missing)?;
    Ok(format!("{head}{BEGIN}\n{table}\n{END}{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEST: &str = "/// Fault: QEMU | dies.\n/// Promise: 2, 8. Result: error, with its\n/// reason.\n#[tokio::test]\nasync fn a_dead_qemu_is_seen() {\n";

    #[test]
    fn a_docstring_makes_a_row() {
        let rows = rows_of(TEST, "tests/a.rs").unwrap();
        let row = Row {
            fault: "QEMU \\| dies".to_owned(),
            promise: "2, 8".to_owned(),
            result: "error, with its reason".to_owned(),
            test: "`a_dead_qemu_is_seen` (tests/a.rs)".to_owned(),
        };
        assert_eq!(rows, [row]);
    }

    #[test]
    fn a_fault_without_promise_or_test_is_refused() {
        for wrong in
            ["/// Fault: x. Result: y.\nfn a() {", "/// Fault: x. Promise: 1. Result: y.\n"]
        {
            assert!(rows_of(wrong, "tests/a.rs").is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_the_table_of_the_page_changes() {
        let page = format!("head\n{BEGIN}\nold\n{END}\ntail\n");
        let new = with_table(&page, "new\n").unwrap();
        assert_eq!(new, format!("head\n{BEGIN}\nnew\n\n{END}\ntail\n"));
        assert_eq!(with_table(&new, "new\n").unwrap(), new);
    }
}
