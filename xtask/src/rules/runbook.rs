//! The runbook: one section an alert, each with the same parts, and none for an alert that is no more.

use std::collections::{BTreeMap, BTreeSet};

/// What a reader at night looks for in each section.
const PARTS: [&str; 4] = ["**Means**: ", "**Lost**: ", "```sh\n", "**Do**: "];
/// How the names of alerts begin.
const PREFIX: &str = "Ghost";

/// What is wrong with the page.
pub(super) fn problems(page: &str, alerts: &BTreeSet<String>) -> Vec<String> {
    let sections = sections(page);
    let missing = alerts.iter().filter(|alert| !sections.contains_key(alert.as_str()));
    let missing = missing.map(|alert| format!("the runbook has no section '### {alert}'"));
    let stale = sections.keys().filter(|name| !alerts.contains(**name));
    let stale = stale.map(|name| format!("the runbook's section '{name}' is of no alert"));
    let parts = sections.iter().flat_map(|(name, text)| {
        let lacks = PARTS.iter().filter(|part| !text.contains(**part));
        lacks.map(move |part| format!("the runbook's section '{name}' has no {}", part.trim()))
    });
    missing.chain(stale).chain(parts).collect()
}

/// Each alert's section, by its name; a section ends with the next heading.
fn sections(page: &str) -> BTreeMap<&str, &str> {
    let after_headings = page.split("\n#").filter_map(|text| text.strip_prefix("## "));
    let named = after_headings.filter_map(|text| text.split_once('\n'));
    named.filter(|(name, _)| name.starts_with(PREFIX)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# Runbook\n\n## The agent\n\n### GhostA\n\n**Means**: a\n**Lost**: b\n\n```sh\nc\n```\n\n**Do**: d\n";

    fn found(page: &str) -> Vec<String> {
        problems(page, &BTreeSet::from(["GhostA".to_owned()]))
    }

    #[test]
    fn a_section_with_all_parts_is_enough() {
        assert_eq!(found(GOOD), Vec::<String>::new());
    }

    #[test]
    fn a_missing_a_stale_and_a_poor_section_are_found() {
        assert_eq!(found("# Runbook\n"), ["the runbook has no section '### GhostA'"]);
        let stale = format!("{GOOD}\n### GhostB\n**Means**: **Lost**: ```sh\n**Do**: x\n");
        assert_eq!(found(&stale), ["the runbook's section 'GhostB' is of no alert"]);
        let poor = GOOD.replace("**Lost**: b\n", "");
        assert_eq!(found(&poor), ["the runbook's section 'GhostA' has no **Lost**:"]);
    }
}
